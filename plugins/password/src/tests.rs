use super::Password;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use nervewire_plugin_sdk::{prelude::*, testing};

/// Cheap, so that tests are quick.
fn hash(password: &str) -> String {
    let cheap = Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(64, 1, 1, None).unwrap(),
    );
    cheap
        .hash_password_with_salt(password.as_bytes(), b"0123456789abcdef")
        .unwrap()
        .to_string()
}

fn load(config: &str, users: &str) -> Result<Password, String> {
    testing::load_with_files(config, [("users", users)])
}

fn check(plugin: &mut Password, username: &str, password: &str, expected: Authentication) {
    let answer = plugin.authenticate(&testing::client("7"), &testing::credentials(username, password));
    assert_eq!(answer, expected, "{username} {password}");
}

const WRONG: Authentication = Authentication::Deny(Refusal::BadUserNameOrPassword);

#[test]
fn the_right_password_lets_in() {
    let users = format!(
        "# people\n\nann:{}\r\nbob:{}\n",
        hash("secret-of-ann"),
        hash("secret-of-bob")
    );
    let mut plugin = load("{}", &users).unwrap();
    check(&mut plugin, "ann", "secret-of-ann", Authentication::allow());
    check(&mut plugin, "bob", "secret-of-bob", Authentication::allow());
    check(&mut plugin, "ann", "secret-of-bob", WRONG);
    check(&mut plugin, "ann", "", WRONG);
    check(&mut plugin, "Ann", "secret-of-ann", Authentication::Abstain);
    check(&mut plugin, "eve", "secret-of-ann", Authentication::Abstain);
    check(&mut plugin, "", "", Authentication::Abstain);
    check(&mut plugin, "# people", "", Authentication::Abstain);
}

#[test]
fn cost_and_lanes_are_those_of_the_entry() {
    let costly = Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(1024, 2, 2, Some(24)).unwrap(),
    );
    let entry = costly.hash_password_with_salt(b"secret", b"somesaltsalt").unwrap();
    let mut plugin = load("{}", &format!("ann:{entry}")).unwrap();
    check(&mut plugin, "ann", "secret", Authentication::allow());
    check(&mut plugin, "ann", "Secret", WRONG);
}

/// Made with the reference implementation, by argon2-cffi.
#[test]
fn hashes_of_other_tools_are_understood() {
    let entry = "$argon2id$v=19$m=256,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$7spm2x4WHG8c8C+Y0OpAgx/lehOzaF6sfo6KPWr/D3Y";
    let mut plugin = load("{}", &format!("ann:{entry}")).unwrap();
    check(&mut plugin, "ann", "correct horse", Authentication::allow());
    check(&mut plugin, "ann", "correct horse ", WRONG);
}

#[test]
fn other_ways_to_authenticate_are_left_to_others() {
    let mut plugin = load("{}", &format!("ann:{}", hash("secret"))).unwrap();
    let client = testing::client("7");
    assert_eq!(
        plugin.authenticate(&client, &Credentials::default()),
        Authentication::Abstain
    );
    let enhanced = Credentials {
        method: Some("SCRAM".to_owned()),
        ..testing::credentials("ann", "secret")
    };
    assert_eq!(plugin.authenticate(&client, &enhanced), Authentication::Abstain);
    let nothing = Credentials {
        password: None,
        ..testing::credentials("ann", "")
    };
    assert_eq!(plugin.authenticate(&client, &nothing), WRONG);
}

#[test]
fn short_passwords_are_refused_even_where_they_match() {
    let users = format!("ann:{}\nbob:{}", hash("1234567"), hash("12345678"));
    let mut plugin = load(r#"{"min_length": 8}"#, &users).unwrap();
    check(&mut plugin, "ann", "1234567", WRONG);
    check(&mut plugin, "bob", "12345678", Authentication::allow());
    check(&mut plugin, "eve", "1", Authentication::Abstain);
}

#[test]
fn a_file_without_users_abstains() {
    check(
        &mut load("{}", "# nobody yet\n").unwrap(),
        "ann",
        "secret",
        Authentication::Abstain,
    );
}

fn check_refused(users: &str, expected: &str) {
    assert_eq!(
        load("{}", users).map(|_| ()),
        Err(format!("file \"users\", {expected}")),
        "{users}"
    );
}

#[test]
fn lines_that_mean_nothing_are_refused_with_their_number() {
    let ann = format!("ann:{}", hash("secret"));
    check_refused(
        "\n# a\nann",
        "line 3: no `:` between user and hash, write USER:$argon2id$...",
    );
    check_refused(":x", "line 1: no user before the `:`");
    check_refused("ann:secret", "line 1: \"ann\" has no hash in PHC format: $argon2id$...");
    check_refused(&format!("{ann}\n{ann}"), "line 2: user \"ann\" was named before");
    check_refused(
        &ann.replace("argon2id", "argon2i"),
        "line 1: \"ann\": algorithm argon2i, only argon2id is taken",
    );
    check_refused(
        &ann.replace("argon2id", "scrypt"),
        "line 1: \"ann\": algorithm scrypt, only argon2id is taken",
    );
    check_refused(
        &ann.replace("$v=19", ""),
        "line 1: \"ann\": not version 19 of argon2id, write v=19",
    );
    check_refused(
        &ann.replace("$v=19", "$v=16"),
        "line 1: \"ann\": not version 19 of argon2id, write v=19",
    );
    check_refused(
        "ann:$argon2id$v=19$m=64,t=1,p=1",
        "line 1: \"ann\": salt or hash are missing",
    );
}

#[test]
fn costs_that_would_not_fit_are_refused() {
    let with = |cost: &str| format!("ann:{}", hash("secret").replace("m=64,t=1,p=1", cost));
    check_refused(
        &with("m=65536,t=1,p=1"),
        "line 1: \"ann\": m=65536 KiB is over max_memory_kib = 49152, raise it with limits.authenticate_memory_mib",
    );
    check_refused(
        &with("m=64,t=17,p=1"),
        "line 1: \"ann\": t=17,p=1, at most t=16,p=16 are taken",
    );
    check_refused(
        &with("m=1024,t=1,p=17"),
        "line 1: \"ann\": t=1,p=17, at most t=16,p=16 are taken",
    );
    assert!(load("{}", &with("m=1,t=1,p=1")).unwrap_err().contains("parameters"));
    assert!(
        load(r#"{"max_memory_kib": 32}"#, &with("m=64,t=1,p=1"))
            .unwrap_err()
            .contains("over max_memory_kib = 32")
    );
}

#[test]
fn the_users_file_must_be_named() {
    assert_eq!(
        testing::load::<Password>("{}").map(|_| ()),
        Err("needs a file: write files = { users = \"path\" } in this plugin".to_owned())
    );
    assert!(
        load(r#"{"minlength": 8}"#, "")
            .unwrap_err()
            .contains("unknown field `minlength`")
    );
}
