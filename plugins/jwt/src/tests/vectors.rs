//! Made with joserfc (Python) and the OpenSSL behind it: public keys, and tokens of `{"sub": "ann", "exp": 4102444800}`.
//! The private keys were thrown away.

/// All four keys.
pub(crate) const JWKS: &str = "{\"keys\": [{\"n\": \"sQpSzEAuMDby1wPOvV3vx5Fv6S2qGV9PrO-D8SS66LCAoMNlS8618IxiOGK5iLN0B0l8kJAwynplDVd5lkkeU_Yq7pCDVvI8sbeRb1xoUJZW4JRVrVp5AMnNR08J-KKbWEqmviL5ij1GkY_LzAShADMXRynhJOOH-UzPQZCbCs0dPIVPLMbKlvomZ2qclPsGXjg4ZP3sJJ3vVABSRDrOpKdOEmcM9kJmeHjJ0WlJDuh5MzVP6PPrfwXvSrtkhfKtTOs6PWzavgadXD06JaKEkQ03_zGo1f1cxmAx9NevXd14-ZsITJsRt9lxieH7AAcXgYmJTXmXhzUPkyXlhw3mtw\", \"e\": \"AQAB\", \"kty\": \"RSA\", \"kid\": \"rsa\"}, {\"crv\": \"P-256\", \"x\": \"6XSyCCvNybkOeTgN_sZtXYZuStXILUTjelAi1FkIIhU\", \"y\": \"p6sLFMb_fH_rPHW35hmA8n9eHfR1_ZvU-2xaXAn25CY\", \"kty\": \"EC\", \"kid\": \"p256\"}, {\"crv\": \"P-384\", \"x\": \"pwLUy_8Ite0DIiVBm0QqgVZFdptAFVWLg2xyZGyVZNu7IDEQJsMQM4zWkBcF-8uM\", \"y\": \"EjRhqmtp2e2gcoKJUDc80Yhi6g0Wy0p2MKLbrmaQwbzxPZIXqoRHlmAxQmgkAsdl\", \"kty\": \"EC\", \"kid\": \"p384\"}, {\"crv\": \"Ed25519\", \"x\": \"-zxEbCfTIClL6TwSOxkGRVIwV_QAciJomWkxacryViM\", \"kty\": \"OKP\", \"kid\": \"ed\"}]}";

/// All four keys, as openssl writes them.
pub(crate) const PEM: &str = r#"-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAsQpSzEAuMDby1wPOvV3v
x5Fv6S2qGV9PrO+D8SS66LCAoMNlS8618IxiOGK5iLN0B0l8kJAwynplDVd5lkke
U/Yq7pCDVvI8sbeRb1xoUJZW4JRVrVp5AMnNR08J+KKbWEqmviL5ij1GkY/LzASh
ADMXRynhJOOH+UzPQZCbCs0dPIVPLMbKlvomZ2qclPsGXjg4ZP3sJJ3vVABSRDrO
pKdOEmcM9kJmeHjJ0WlJDuh5MzVP6PPrfwXvSrtkhfKtTOs6PWzavgadXD06JaKE
kQ03/zGo1f1cxmAx9NevXd14+ZsITJsRt9lxieH7AAcXgYmJTXmXhzUPkyXlhw3m
twIDAQAB
-----END PUBLIC KEY-----
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE6XSyCCvNybkOeTgN/sZtXYZuStXI
LUTjelAi1FkIIhWnqwsUxv98f+s8dbfmGYDyf14d9HX9m9T7bFpcCfbkJg==
-----END PUBLIC KEY-----
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEpwLUy/8Ite0DIiVBm0QqgVZFdptAFVWL
g2xyZGyVZNu7IDEQJsMQM4zWkBcF+8uMEjRhqmtp2e2gcoKJUDc80Yhi6g0Wy0p2
MKLbrmaQwbzxPZIXqoRHlmAxQmgkAsdl
-----END PUBLIC KEY-----
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA+zxEbCfTIClL6TwSOxkGRVIwV/QAciJomWkxacryViM=
-----END PUBLIC KEY-----
"#;

/// The RSA key in the form of RFC 8017.
pub(crate) const RSA_PKCS1_PEM: &str = r#"-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEAsQpSzEAuMDby1wPOvV3vx5Fv6S2qGV9PrO+D8SS66LCAoMNlS861
8IxiOGK5iLN0B0l8kJAwynplDVd5lkkeU/Yq7pCDVvI8sbeRb1xoUJZW4JRVrVp5
AMnNR08J+KKbWEqmviL5ij1GkY/LzAShADMXRynhJOOH+UzPQZCbCs0dPIVPLMbK
lvomZ2qclPsGXjg4ZP3sJJ3vVABSRDrOpKdOEmcM9kJmeHjJ0WlJDuh5MzVP6PPr
fwXvSrtkhfKtTOs6PWzavgadXD06JaKEkQ03/zGo1f1cxmAx9NevXd14+ZsITJsR
t9lxieH7AAcXgYmJTXmXhzUPkyXlhw3mtwIDAQAB
-----END RSA PUBLIC KEY-----
"#;

/// One token of each algorithm.
pub(crate) const TOKENS: [(&str, &str); 9] = [
    (
        "RS256",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.Ew3fP5IBFOZo1J0xcTRCDEHScygYrRAoyj2rFmaKCnlYQeFRfEOk336dMDeeQ9-VRjo4CigkKnOqy6BYaFcKtwnlGKItcwKCnGNB-4qpyXK-6fVacCTCPUMwrQ4rFXI6j--LLTZpcq6ktw5uWUQ8w4fUpqqriOqRc1ju0Yn1QBDPwxVCBMVUinncAduiI-6St7D9SoZ538Hj6uh5kzqbi50bp7miWMDgGvr0Y38jzwg6YeKfletjETA97Z7RU6_50_rjDLfe3jTkXbfkQ_hyv3VnHQmtpwJNway-a1RL-3_ni0szps4lAeFrh0mii5QhZx_DHdBNHGpJoiOTWRZxng",
    ),
    (
        "RS384",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzM4NCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.e08uuXRaKxzhiYXZoMIS4vyqJwppUwPeKzBWWPCA0_BKSYqk8Pa5y7zhUTcOqRuVjhEW8FpBGA5jhcw_w1gPXrKrWTymkDAQ_PaAdqoQYhzUpxRa5x5Cn_4r5COOTGiVHD8PFO3_ZF8OZRMygw6DJrfDfSAb11wXqbllGx_oGObAI_jSoA6M2hO2BJeL4HB6Qt2vDfyFxRdqNAXbqLGOZg_Bt61-a8DZcVtiG74TMgxvSD5AigN-c5lhKTImU-gMBSS2GpeJOiLur2J0aZErSA6cBHLuOWrM7TUp5HpW9XLTgFazvKElfN7G8haqZA32PwvuVHZf579sPYnAwsNvSA",
    ),
    (
        "RS512",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzUxMiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.g1F6i20ViAMYvUuudz_4W9OSKoZ0Agj49OYhmW7KBDsLqe_Gvwcp2gbo8Rzvzv4-QL-eLShQhi2xXFyUrlla1Z-kcLzKU7xnpCMVJhWJ_Fq0VyArcA14Eq44QJJfiJey52YyhxpEUNhdXORq8-c5NTw1fLTI2WduxyLR7Xeb1USFhL1tWj2nJ9AYDe7tU5KH9_37Gf8haAgcUKW_q8DplFS4yaldjo06zNMeRHHZSf_iPrgiEiKjmHGZxOrV7Su464S-d3iJIAn4C8NFc76ibyhZR7487_AeHILh54Hxf2_Jf4uE6mWQGNfBRSjBjitqkFgy9Rmuf1ZiUrVSEmUcgw",
    ),
    (
        "PS256",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJQUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.DJSY7KTpKZS3dbmQx3_94xg7OTFs0TcM4tcRhEl2a3gtK6FF30kUS7AaVpGRILFuGarAgAbhboM1XDiyfXMdJ7wbVL9-x9DL2pVHI9oUKWqa0J57q5dFfRhoi2aASp9l1_DauTIB02jO-BgcMNXf7xlp2sKVWhDTN4S6wFZwkEzhlmJUeFU6OP-FhReMptySMX_wzBtQiQ_ll7f9ogzOEBtIMbuGBUsjcNUOy-A43EKpKeKUfmGFKaX-Hi2uRVuxZwxuejp0quk3tfrJ_2fh0ErN_P6YFW9uPVqfRDKJNioA53Na55jgVTXUtZTduDJATPtynfEoHmzOEjc7Dv5ZUw",
    ),
    (
        "PS384",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJQUzM4NCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.j3mdcvBO1iu6NuXIXySqLDqUT6eivLyC4q_30Z8oHk0wYPpyqScpnUwasmKqbjQhx-pg-Aeq6Kyfi6B2mn2_K3ljXvGeKVyTvCGPQPC8_9DEjik_EF7YHU6kTH5jI7R8_533bWi_NsmCvIXJZ_-KoaGptGiESoKMKmNZ1MUgEi3yqOoP9Q07QDjjuLS-MKNswmKlxppl-qn6CzeD47jVuWKz45wIYQGLxWR60mFJT9SEGWai_PPPMpYq8KXALE7ZCbexm71WIGEvTGQkfZP7iCCWNb542kGjXPFj8HL6smnRM4FwYeDyvlhJfENdvFj1NMcE46Ugtp7SQGFuUpzw5A",
    ),
    (
        "PS512",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJQUzUxMiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.P8Xl5ghPGhZRHsQ6creWkspjEPrKT9uYeAATChC9GErVpAeNWJq3Ex1GewNjfIirmzAFRmztZ9hTgwrYQzDrA-S3Jq0m-znB5LLEMrS8WptvCvX2QBMR4XnraT-UE12Cy5LZE9MeGDXQ2SxtZRTmXFhvMJnYXrXCShPbMjBLSgkVCjLpz2A-03RB741e7oGVbQFcJVNq2JVofCZmdThGK4edoG-onSS3X64VZxTOGX4OKs_5lMBtIV03ZXB5SIz0pq6KWmj1sthhpXgPwTXqITi5pKW6hZLWpev5zkiuQImzmSc9Lm3cvRBkL1KaoUCiCYrTjhZpSK3A-GUeyHV04g",
    ),
    (
        "ES256",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.MXscxzUsGa3O1HQi0xgDuf5oOCNhyjXkdQ9wq_-wrRSeJgp4d_vFP70GjGfObh0luXHHL29mSHvTqzhzWtwefA",
    ),
    (
        "ES384",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzM4NCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.odJV4tkLrkNYHnutN8HEhGnalgjDE42KZi9FwK_FHF6jzxuBEJpVwkDEhhnaiFsXBqtPc96zx2ujkrjmwKLBOgYP4T8-5Qf04Wu7cRhuZoCe7ZbHyaEd0sC29bJRIfpe",
    ),
    (
        "EdDSA",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.Qbq2hxsAsGrTkMJsfoQ3k5jEM6nE6RGefup3fkSiDCC7pVkNmqzx6fkQl0ZDPCbqgkXuz6vt_dlbNk7en7YlCQ",
    ),
];
