//! Signatures, keys, and that one is never taken for another.

use super::mint::{NOW_S, base64url, hs256, hs256_with, message};
use super::vectors::{JWKS, PEM, RSA_PKCS1_PEM, TOKENS};
use super::{SECRET, WRONG, ask, with_secret};
use crate::algorithm::Algorithm;
use crate::jwk::{KeySet, Origin};
use crate::{Jwt, base64url as decode, pem};
use nervewire_plugin_sdk::{prelude::*, testing};
use serde_json::{Value, json};

const RFC_7515_PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// RFC 7515 appendices A.1 to A.3 and RFC 8037 appendix A.4: key, header, payload, signature.
const VECTORS: [(&str, &str, &str, &str); 4] = [
    (
        r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        RFC_7515_PAYLOAD,
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    (
        r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#,
        "eyJhbGciOiJSUzI1NiJ9",
        RFC_7515_PAYLOAD,
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    (
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        "eyJhbGciOiJFUzI1NiJ9",
        RFC_7515_PAYLOAD,
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
    (
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        "eyJhbGciOiJFZERTQSJ9",
        "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    ),
];

#[test]
fn the_examples_of_the_standards_are_verified() {
    for (jwk, header, payload, signature) in VECTORS {
        let set = KeySet::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes(), Origin::File).unwrap();
        let parsed: Value = serde_json::from_slice(&decode(header).unwrap()).unwrap();
        let algorithm = Algorithm::parse(parsed["alg"].as_str().unwrap()).unwrap();
        let message = format!("{header}.{payload}");
        let signature = decode(signature).unwrap();
        let verifies = |message: &str, signature: &[u8]| set.keys[0].verifies(algorithm, message.as_bytes(), signature);
        assert!(verifies(&message, &signature), "{algorithm:?}");
        assert!(!verifies(&format!("{message}x"), &signature), "{algorithm:?}");
        for position in [0, signature.len() / 2, signature.len() - 1] {
            let mut tampered = signature.clone();
            tampered[position] ^= 1;
            assert!(!verifies(&message, &tampered), "{algorithm:?} {position}");
        }
        assert!(!verifies(&message, &signature[1..]), "{algorithm:?}");
        assert!(!verifies(&message, &[]), "{algorithm:?}");
    }
}

fn load(config: &str, files: &[(&str, &str)]) -> Result<Jwt, String> {
    testing::set_clock_ms(NOW_S * 1000);
    testing::load_with_files(config, files.iter().copied())
}

#[test]
fn tokens_of_another_implementation_are_verified_in_each_algorithm() {
    for files in [[("jwks", JWKS)], [("pem", PEM)]] {
        let mut plugin = load(r#"{"username_claim": "sub"}"#, &files).unwrap();
        for (algorithm, token) in TOKENS {
            match ask(&mut plugin, token) {
                Authentication::Allow(identity) => assert_eq!(identity.username.as_deref(), Some("ann")),
                other => panic!("{algorithm}: {other:?}"),
            }
        }
    }
    let mut plugin = load("{}", &[("pem", RSA_PKCS1_PEM)]).unwrap();
    for (algorithm, token) in TOKENS {
        let is_rsa = algorithm.starts_with(['R', 'P']);
        assert_eq!(
            matches!(ask(&mut plugin, token), Authentication::Allow(_)),
            is_rsa,
            "{algorithm}"
        );
    }
}

#[test]
fn a_changed_token_is_refused() {
    let mut plugin = load("{}", &[("jwks", JWKS)]).unwrap();
    for (algorithm, token) in TOKENS {
        let parts: Vec<&str> = token.split('.').collect();
        let other = base64url(br#"{"sub":"root","exp":4102444800}"#);
        for changed in [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}.{}", parts[0], parts[1], base64url(&[0; 64])),
            format!("{}.{}.{}=", parts[0], parts[1], parts[2]),
        ] {
            assert_eq!(ask(&mut plugin, &changed), WRONG, "{algorithm}: {changed}");
        }
    }
}

/// RFC 8725 section 2.1.
#[test]
fn no_algorithm_is_taken_for_another() {
    let mut plugin = load("{}", &[("pem", PEM)]).unwrap();
    let claims = json!({"sub": "root", "exp": NOW_S + 60});
    // The public key as an HMAC secret, as text and as it is in the file.
    for secret in [PEM.as_bytes(), PEM.trim_end().as_bytes(), RSA_PKCS1_PEM.as_bytes()] {
        assert_eq!(
            ask(&mut plugin, &hs256_with(&json!({"alg": "HS256"}), secret, &claims)),
            WRONG
        );
    }
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let token = format!("{}.", message(&json!({"alg": alg}), &claims));
        assert_eq!(ask(&mut plugin, &token), WRONG, "{alg}");
    }
    // A signature of one algorithm under the name of another.
    for (_, token) in TOKENS {
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let payload = rest.split_once('.').unwrap().1;
        for alg in ["HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA", "RS512", "PS512"] {
            let header = base64url(format!(r#"{{"alg":"{alg}"}}"#).as_bytes());
            assert_eq!(
                ask(&mut plugin, &format!("{header}.{payload}.{signature}")),
                WRONG,
                "{alg}"
            );
        }
    }
}

#[test]
fn only_allowed_algorithms_are_taken() {
    let mut plugin = load(r#"{"algorithms": ["ES256", "PS384"]}"#, &[("jwks", JWKS)]).unwrap();
    for (algorithm, token) in TOKENS {
        let allowed = ["ES256", "PS384"].contains(&algorithm);
        assert_eq!(
            matches!(ask(&mut plugin, token), Authentication::Allow(_)),
            allowed,
            "{algorithm}"
        );
    }
    for (config, words) in [
        (r#"{"algorithms": []}"#, "empty"),
        (r#"{"algorithms": ["none"]}"#, "\"none\" is not taken"),
        (r#"{"algorithms": ["HS256"]}"#, "no key fits"),
    ] {
        let error = load(config, &[("jwks", JWKS)]).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_key_that_names_its_algorithm_takes_no_other() {
    let mut set: Value = serde_json::from_str(JWKS).unwrap();
    set["keys"][0]["alg"] = json!("PS256");
    let mut plugin = load("{}", &[("jwks", &set.to_string())]).unwrap();
    for (algorithm, token) in TOKENS {
        let refused = algorithm.starts_with("RS") || ["PS384", "PS512"].contains(&algorithm);
        assert_eq!(ask(&mut plugin, token) == WRONG, refused, "{algorithm}");
    }
}

#[test]
fn a_token_that_names_a_key_is_verified_by_that_key() {
    let keys = json!({"keys": [
        {"kty": "oct", "kid": "a", "k": base64url(SECRET.as_bytes())},
        {"kty": "oct", "kid": "b", "k": base64url(&[7; 32])},
    ]});
    let mut plugin = load("{}", &[("jwks", &keys.to_string())]).unwrap();
    let claims = json!({"exp": NOW_S + 60});
    for (header, allowed) in [
        (json!({"alg": "HS256", "kid": "a"}), true),
        (json!({"alg": "HS256", "kid": "b"}), false),
        (json!({"alg": "HS256", "kid": "c"}), false),
        (json!({"alg": "HS256"}), true),
    ] {
        let token = hs256_with(&header, SECRET.as_bytes(), &claims);
        assert_eq!(
            matches!(ask(&mut plugin, &token), Authentication::Allow(_)),
            allowed,
            "{header}"
        );
    }
}

#[test]
fn headers_that_demand_something_are_refused() {
    let mut plugin = with_secret("{}");
    let claims = json!({"exp": NOW_S + 60});
    for header in [
        json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
        json!({"alg": "HS256", "crit": []}),
        json!({"alg": 7}),
        json!({"typ": "JWT"}),
        json!([]),
    ] {
        let token = hs256_with(&header, SECRET.as_bytes(), &claims);
        let expected = if token.starts_with("eyJ") {
            WRONG
        } else {
            Authentication::Abstain
        };
        assert_eq!(ask(&mut plugin, &token), expected, "{header}");
    }
    let twice = format!(
        "{}.{}",
        base64url(br#"{"alg":"HS256","alg":"none"}"#),
        base64url(br#"{"exp":4102444800}"#)
    );
    assert_eq!(ask(&mut plugin, &format!("{twice}.")), WRONG);
}

#[test]
fn secrets_are_as_long_as_the_hash_and_written_as_configured() {
    for (config, file, fits) in [
        ("{}", "short", false),
        ("{}", SECRET, true),
        ("{}", "0123456789abcdef0123456789abcdef\n", true),
        ("{}", "0123456789abcdef0123456789abcdef\r\n", true),
        (
            r#"{"secret_encoding": "base64"}"#,
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n",
            true,
        ),
        (
            r#"{"secret_encoding": "base64url"}"#,
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
            true,
        ),
        (r#"{"secret_encoding": "base64"}"#, SECRET, false),
    ] {
        let loaded = load(config, &[("secret", file)]);
        assert_eq!(loaded.is_ok(), fits, "{config} {file}");
        if let Ok(mut plugin) = loaded {
            let token = hs256(SECRET, &json!({"exp": NOW_S + 60}));
            assert!(
                matches!(ask(&mut plugin, &token), Authentication::Allow(_)),
                "{config} {file}"
            );
        }
    }
    let mut plugin = with_secret("{}");
    let longer = json!({"alg": "HS384"});
    assert_eq!(
        ask(
            &mut plugin,
            &hs256_with(&longer, SECRET.as_bytes(), &json!({"exp": NOW_S + 60}))
        ),
        WRONG
    );
}

#[track_caller]
fn check_file(name: &str, contents: &str, words: &str) {
    let error = load("{}", &[(name, contents)]).map(|_| ()).unwrap_err();
    assert!(error.contains(words), "{words:?} in {error:?}");
}

#[test]
fn files_that_are_no_keys_are_refused_with_what_to_write() {
    assert!(load("{}", &[]).unwrap_err().contains("needs keys"));
    check_file("key", "x", "name it jwks, pem or secret");
    check_file("jwks", "{}", "not a JSON Web Key Set");
    check_file("jwks", r#"{"keys": []}"#, "no key that can be used");
    let many = json!({"keys": vec![json!({"kty": "oct"}); 65]}).to_string();
    check_file("jwks", &many, "65 keys");
    check_file("pem", "hello", "no public key");
    check_file("pem", "-----BEGIN PUBLIC KEY-----\nMII", "no line -----END");
    check_file(
        "pem",
        "-----BEGIN PUBLIC KEY-----\nMII!\n-----END PUBLIC KEY-----",
        "not base64",
    );
    check_file(
        "pem",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "malformed",
    );
    check_file(
        "pem",
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
        "a private key",
    );
    check_file(
        "pem",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "openssl x509",
    );
}

#[test]
fn keys_that_cannot_be_used_are_skipped_with_the_reason() {
    let good = json!({"kty": "oct", "k": base64url(SECRET.as_bytes())});
    for (key, reason) in [
        (json!({"kty": "oct", "k": "c2hvcnQ"}), "HS256 needs 32"),
        (json!({"kty": "oct", "k": "!"}), "not base64url"),
        (json!({"kty": "oct"}), "k is missing"),
        (
            json!({"kty": "oct", "k": base64url(SECRET.as_bytes()), "use": "enc"}),
            "not for signatures",
        ),
        (
            json!({"kty": "oct", "k": base64url(SECRET.as_bytes()), "key_ops": ["sign"]}),
            "not for verifying",
        ),
        (
            json!({"kty": "oct", "k": base64url(SECRET.as_bytes()), "alg": "RS256"}),
            "does not fit",
        ),
        (
            json!({"kty": "oct", "k": base64url(SECRET.as_bytes()), "alg": "A128GCM"}),
            "not known",
        ),
        (
            json!({"kty": "RSA", "n": base64url(&[255; 128]), "e": "AQAB"}),
            "at least 2048",
        ),
        (
            json!({"kty": "RSA", "n": base64url(&[255; 256]), "e": "AQAB", "d": "AA"}),
            "a private key",
        ),
        (
            json!({"kty": "RSA", "n": base64url(&[255; 2048]), "e": "AQAB"}),
            "more than 8192",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": base64url(&[1; 32]), "y": base64url(&[1; 32])}),
            "not a point",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": base64url(&[1; 31]), "y": base64url(&[1; 32])}),
            "32 bytes",
        ),
        (
            json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
            "not known",
        ),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&[0; 32])}),
            "not a point",
        ),
        (
            json!({"kty": "OKP", "crv": "X25519", "x": base64url(&[9; 32])}),
            "not known",
        ),
        (json!({"kid": "x"}), "kty"),
    ] {
        let set = json!({"keys": [key, good]}).to_string();
        let set = KeySet::parse(set.as_bytes(), Origin::File).unwrap();
        assert_eq!(set.keys.len(), 1, "{key}");
        assert!(set.reasons().contains(reason), "{reason} in {}", set.reasons());
    }
    let secret = json!({"keys": [good]}).to_string();
    let error = KeySet::parse(secret.as_bytes(), Origin::Url).unwrap_err();
    assert!(error.contains("a secret that anybody may fetch"), "{error}");
}

#[test]
fn pem_files_may_hold_several_keys_between_other_lines() {
    assert_eq!(pem::parse(PEM).unwrap().len(), 4);
    assert_eq!(pem::parse(&format!("# keys\n{PEM}\n{RSA_PKCS1_PEM}")).unwrap().len(), 5);
}

#[test]
fn no_secret_gets_into_a_debug_line() {
    let plugin = with_secret("{}");
    assert!(!format!("{plugin:?}").contains("0123"), "{plugin:?}");
}
