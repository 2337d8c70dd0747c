use super::*;

/// The text, with a listener after it, is refused with exactly these lines (without `f.toml:`).
#[track_caller]
fn check(text: &str, expected: &str) {
    check_whole(&format!("{text}{LISTENER}"), expected);
}

#[track_caller]
fn check_whole(text: &str, expected: &str) {
    let errors = parse(text, Path::new("")).expect_err("this is refused");
    let lines: Vec<_> = errors
        .0
        .iter()
        .map(|error| error.to_string().replacen("f.toml:", "", 1))
        .collect();
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn syntax_errors() {
    check("[broker", "1:8: not TOML: unclosed table; write `]`");
    check("[auth]\nanonymous", "2:10: not TOML: key with no value; write `=`");
    check(
        "[auth]\ndefault = deny",
        "2:11: not TOML: string values must be quoted; write literal string",
    );
    check(
        "[limits]\nqueue_bytes = 2000\nqueue_bytes = 3000",
        "3:1: not TOML: duplicate key",
    );
    check("[auth]\n[auth]\n", "2:2: not TOML: duplicate key");
    // Nothing else is said about a text that is no TOML.
    check(
        "colour = 1\nx = ",
        "2:5: not TOML: string values must be quoted; write literal string",
    );
}

#[test]
fn unknown_keys() {
    check(
        "colour = 1",
        "1:1: unknown key colour in this file; known keys: broker, listener, auth, limits, reload, detect, plugin, admin",
    );
    check("[brokr]", "1:2: unknown key brokr in this file; write broker");
    check("[[plugins]]", "1:3: unknown key plugins in this file; write plugin");
    check(
        "[broker]\nshard = 1",
        "2:1: unknown key shard in [broker]; write shards",
    );
    check(
        "[broker]\n\n  data-dir = \"\"",
        "3:3: unknown key data-dir in [broker]; write data_dir",
    );
    check(
        "limits.queue_size = 3",
        "1:8: unknown key queue_size in [limits]; write queue_bytes",
    );
    check(
        "[auth]\n\"\" = 1",
        "2:1: unknown key  in [auth]; known keys: anonymous, default, max_connection_s",
    );
    check(
        "[admin]\ntokens = \"x\"",
        "2:1: unknown key tokens in [admin]; write token",
    );
    check(
        "[[plugin]]\nname = \"a\"\ncomponent = \"builtin:acl\"\nlimits = { call_s = 1 }",
        "4:12: unknown key call_s in limits of [[plugin]]; write call_ms",
    );
    check(
        "[[listener]]\nbind = \"[::1]:1884\"\nadress = 1",
        "3:1: unknown key adress in [[listener]]; known keys: bind, transport, path, allowed_origins, tls, proxy_protocol, \
         authenticators, anonymous, max_connections, max_packet_bytes, connect_timeout_ms",
    );
}

#[test]
fn wrong_types() {
    check(
        "broker = 1",
        "1:10: broker must be a table, not an integer; write broker = { ... } or [broker]",
    );
    check(
        "plugin = 1",
        "1:10: plugin must be an array of tables, not an integer; write [[plugin]]",
    );
    check(
        "[plugin]",
        "1:1: plugin must be an array of tables, not a table; write [[plugin]]",
    );
    check(
        "[broker]\nshards = \"2\"",
        "2:10: shards must be an integer, not a string; write 0 or a number from 1 to 1024",
    );
    check(
        "[broker]\ndata_dir = 1",
        "2:12: data_dir must be a string, not an integer; write data_dir = \"nervewire-data\"",
    );
    check(
        "[auth]\ndefault = true",
        "2:11: default must be a string, not a boolean; write default = \"deny\"",
    );
    check(
        "[limits]\nqueue_bytes = 1e6",
        "2:15: queue_bytes must be an integer, not a float; write a number from 1024 to 1099511627776",
    );
    check(
        "[admin]\ntoken = 7",
        "2:9: token must be a string, not an integer; write token = \"a long random word\"",
    );
    check_plugin(
        "hooks = \"authorize\"",
        "4:9: hooks must be an array of strings, not a string; write hooks = [\"authorize\"]",
    );
    check_plugin(
        "grants = [1]",
        "4:10: grants must be an array of strings, not an array; write grants = [\"kv\"]",
    );
    check_plugin(
        "config = 3",
        "4:10: config must be a table, not an integer; write config = { ... } or config.NAME = ...",
    );
    check_plugin(
        "files = []",
        "4:9: files must be a table, not an array; write files = { users = \"passwd\" }",
    );
    check_plugin(
        "files = { a = 1 }",
        "4:15: a must be a string, not an integer; write users = \"passwd\"",
    );
}

#[test]
fn words_outside_their_set() {
    check(
        "[broker]\ndurability = \"disk\"",
        "2:14: durability \"disk\" is unknown; write \"fsync\", \"os\" or \"memory\"",
    );
    check(
        "[auth]\nanonymous = \"yes\"",
        "2:13: anonymous \"yes\" is unknown; write \"deny\", \"loopback\" or \"allow\"",
    );
    check(
        "[auth]\ndefault = \"Deny\"",
        "2:11: default \"Deny\" is unknown; write \"deny\" or \"allow\"",
    );
    check(
        "[limits]\nqueue_policy = \"drop\"",
        "2:16: queue_policy \"drop\" is unknown; write \"drop-oldest\" or \"refuse-new\"",
    );
    check_listener(
        "transport = \"wss\"",
        "3:13: transport \"wss\" is unknown; write \"tcp\" or \"ws\"",
    );
    check_plugin(
        "mode = \"shadows\"",
        "4:8: mode \"shadows\" is unknown; write \"enforce\" or \"shadow\"",
    );
    check_plugin(
        "on_failure = \"allow\"",
        "4:14: on_failure \"allow\" is unknown; write \"deny\" or \"skip\"",
    );
}

#[test]
fn numbers_out_of_range() {
    let wanted = "write a number from 1024 to 268435455";
    check(
        "[limits]\nmax_packet_bytes = 1023",
        &format!("2:20: max_packet_bytes = 1023 is out of range; {wanted}"),
    );
    check(
        "[limits]\nmax_packet_bytes = 268_435_456",
        &format!("2:20: max_packet_bytes = 268435456 is out of range; {wanted}"),
    );
    check(
        "[limits]\nmax_packet_bytes = 0x10",
        &format!("2:20: max_packet_bytes = 0x10 is out of range; {wanted}"),
    );
    check(
        "[reload]\nrollback_failures_percent = 101",
        "2:29: rollback_failures_percent = 101 is out of range; write 0 or a number from 1 to 100",
    );
    check(
        "[reload]\nrollback_min_failures = 0",
        "2:25: rollback_min_failures = 0 is out of range; write a number from 1 to 1000000",
    );
    check(
        "[detect]\nwindow_ms = 99",
        "2:13: window_ms = 99 is out of range; write a number from 100 to 86400000",
    );
    check(
        "[reload]\nrollback_window_ms = 999",
        "2:22: rollback_window_ms = 999 is out of range; write a number from 1000 to 86400000",
    );
    check(
        "[limits]\nqueue_messages = 0",
        "2:18: queue_messages = 0 is out of range; write a number from 1 to 100000000",
    );
    check(
        "[limits]\nmax_connections = -1",
        "2:19: max_connections = -1 is out of range; write a number from 1 to 10000000",
    );
    check(
        "[broker]\nshards = 1025",
        "2:10: shards = 1025 is out of range; write 0 or a number from 1 to 1024",
    );
    check(
        "[limits]\nmemory_bytes = 5",
        "2:16: memory_bytes = 5 is out of range; write 0 or a number from 1048576 to 1125899906842624",
    );
    check_plugin(
        "limits.call_ms = 0",
        "4:18: call_ms = 0 is out of range; write a number from 1 to 60000",
    );
    check_plugin(
        "limits.memory_mib = 2000",
        "4:21: memory_mib = 2000 is out of range; write a number from 1 to 1024",
    );
}

#[test]
fn listeners() {
    const ADVICE: &str = "write for example \"127.0.0.1:1883\", \"0.0.0.0:1883\" or \"[::]:1883\"";
    check_whole(
        "",
        "1:1: no client could connect; write [[listener]] with bind = \"127.0.0.1:1883\"",
    );
    check_whole(
        "listener = []",
        "1:1: no client could connect; write [[listener]] with bind = \"127.0.0.1:1883\"",
    );
    check(
        "[[listener]]",
        "1:1: [[listener]] needs a bind; write bind = \"127.0.0.1:1883\"",
    );
    for bind in [
        "1884",
        ":1884",
        "*:1884",
        "example.org:1884",
        "::1884",
        "127.0.0.1",
        "127.0.0.1:99999",
        "",
    ] {
        let expected = format!("2:8: bind {bind:?} is not an address and a port; {ADVICE}");
        check(&format!("[[listener]]\nbind = \"{bind}\""), &expected);
    }
    check(
        "[[listener]]\nbind = \"0.0.0.0:1883\"",
        "4:8: bind \"127.0.0.1:1883\" is taken by \"0.0.0.0:1883\" of this file; write another port",
    );
    check(
        "[[listener]]\nbind = \"localhost:1883\"",
        "4:8: bind \"127.0.0.1:1883\" is taken by \"localhost:1883\" of this file; write another port",
    );
    check(
        "[admin]\nbind = \"127.0.0.1:1883\"",
        "2:8: bind \"127.0.0.1:1883\" is taken by \"127.0.0.1:1883\" of this file; write another port",
    );
}

#[test]
fn administration() {
    const NEEDS: &str = "an admin listener off loopback needs a token; write token = \"...\" below, or bind 127.0.0.1";
    const CHARACTERS: &str =
        "token must be visible ASCII characters; write for example the output of `openssl rand -hex 32`";
    check("[admin]\nbind = \"0.0.0.0:8080\"", &format!("2:8: {NEEDS}"));
    check("[admin]\nbind = \"[::]:8080\"", &format!("2:8: {NEEDS}"));
    check("[admin]\ntoken = \"\"", &format!("2:9: {CHARACTERS}"));
    check("[admin]\ntoken = \"geheim ä\"", &format!("2:9: {CHARACTERS}"));
}

/// As [`check`] for a line of a plugin, which is line 4.
#[track_caller]
fn check_plugin(line: &str, expected: &str) {
    check(
        &format!("[[plugin]]\nname = \"p\"\ncomponent = \"builtin:acl\"\n{line}"),
        expected,
    );
}

#[test]
fn plugins() {
    const GRANTS: &str = "write \"kv\", \"random\", \"publish:TOPIC-FILTER\" or \"http://HOST:PORT\"";
    const ORIGIN: &str =
        "is not an origin, which ends with its host or port; write for example \"http://auth.internal:8080\"";
    const HOOKS: &str = "write \"authenticate\", \"authorize\", \"transform\" or \"detect\"";
    check(
        "[[plugin]]",
        "1:1: [[plugin]] needs a name; write name = \"acl\"\n1:1: [[plugin]] needs a component; write component = \"builtin:acl\"",
    );
    check(
        "[[plugin]]\nname = \"Acl 1\"\ncomponent = \"builtin:acl\"",
        "2:8: name \"Acl 1\" is not a name; write 1 to 64 of a-z, 0-9, - and _",
    );
    check(
        "[[plugin]]\nname = \"a\"\ncomponent = \"builtin:acl\"\n[[plugin]]\nname = \"a\"\ncomponent = \"builtin:acl\"",
        "5:8: name \"a\" is taken; write a name no other [[plugin]] has",
    );
    check(
        "[[plugin]]\nname = \"a\"\ncomponent = \"builtin:alc\"",
        "3:13: component \"builtin:alc\" is not in this binary; write \"builtin:password\", \"builtin:acl\", \
         \"builtin:rewrite\" or the path of a .wasm file",
    );
    check(
        "[[plugin]]\nname = \"a\"\ncomponent = \"acl\"",
        "3:13: component \"acl\" is not a file; write \"builtin:acl\"",
    );
    check_plugin(
        "hooks = [\"init\"]",
        &format!("4:10: hooks \"init\" is unknown; {HOOKS}"),
    );
    check_plugin(
        "hooks = []",
        "4:9: hooks is empty; remove it for the default, or write [\"authorize\"]",
    );
    check_plugin(
        "hooks = [\"transform\", \"transform\"]",
        "4:23: hooks has \"transform\" twice; remove one of them",
    );
    check_plugin(
        "topics = [\"a/#/b\"]",
        "4:11: topics \"a/#/b\" is not a topic filter: the wildcard # must be the last level; write for example \"a/+/b/#\"",
    );
    check_plugin(
        "topics = [\"$share/g/a\"]",
        "4:11: topics \"$share/g/a\" is a shared subscription; write only the topic filter after $share/GROUP/",
    );
    check_plugin(
        "grants = [\"http://auth:80/login\"]",
        &format!("4:11: grants \"http://auth:80/login\" {ORIGIN}"),
    );
    check_plugin(
        "grants = [\"https://*.internal\"]",
        &format!("4:11: grants \"https://*.internal\" {ORIGIN}"),
    );
    check_plugin(
        "grants = [\"files\"]",
        &format!("4:11: grants \"files\" is unknown; {GRANTS}"),
    );
    check_plugin(
        "grants = [\"publish:\"]",
        "4:11: grants \"publish:\" is not a topic filter: it is empty; write for example \"a/+/b/#\"",
    );
    check_plugin(
        "config = { a = 0xffffffffffffffffff }",
        "4:16: this number cannot be handed to a plugin; write a number of at most 64 bits",
    );
    check_plugin(
        "config = { a = [1, { b = nan }] }",
        "4:26: this number cannot be handed to a plugin; write a finite number",
    );
}

#[test]
fn a_store_without_a_place() {
    check(
        "[broker]\ndata_dir = \"\"\ndurability = \"fsync\"",
        "3:14: durability \"fsync\" needs files; write data_dir = \"nervewire-data\", or durability = \"memory\"",
    );
    check(
        "[broker]\ndurability = \"os\"\ndata_dir = \"\"",
        "2:14: durability \"os\" needs files; write data_dir = \"nervewire-data\", or durability = \"memory\"",
    );
    check(
        "[limits]\nstore_bytes = 1000",
        "2:15: store_bytes = 1000 is out of range; write 0 or a number from 1048576 to 1125899906842624",
    );
}

#[test]
fn all_problems_are_reported_together_in_the_order_of_the_file() {
    check(
        "[limits]\nqueue_bytes = 1\n[broker]\nshard = 1\ndurability = \"disk\"\n[admin]\nbind = \"x\"",
        "2:15: queue_bytes = 1 is out of range; write a number from 1024 to 1099511627776\n\
         4:1: unknown key shard in [broker]; write shards\n\
         5:14: durability \"disk\" is unknown; write \"fsync\", \"os\" or \"memory\"\n\
         7:8: bind \"x\" is not an address and a port; write for example \"127.0.0.1:1883\", \"0.0.0.0:1883\" or \"[::]:1883\"",
    );
}

#[test]
fn a_token_is_never_shown() {
    let errors = parse("[admin]\ntoken = \"secret word\"", Path::new(""))
        .unwrap_err()
        .to_string();
    assert!(!errors.contains("secret"), "{errors}");
    let config = accepted(&format!("[admin]\ntoken = \"secret\"{LISTENER}"));
    assert_eq!(config.admin.token.as_deref(), Some("secret"));
    assert!(!format!("{config:?}").contains("secret"));
}

/// The example with one of its texts replaced is refused with this, about line 13.
#[track_caller]
fn check_example(from: &str, to: &str, expected: &str) {
    let directory = example_directory();
    assert!(EXAMPLE.contains(from));
    let errors = parse(&EXAMPLE.replacen(from, to, 1), directory.path())
        .expect_err("this is refused")
        .to_string();
    assert_eq!(
        errors.replace(&format!("{}/", directory.path().display()), ""),
        format!("f.toml:13:{expected}")
    );
}

#[test]
fn tls_settings() {
    const NOTHING: &str =
        "does nothing where clients are not asked for a certificate; write client_cert = \"optional\" or \"required\"";
    check_example(
        "cert = \"server.pem\", ",
        "",
        "7: tls of [[listener]] needs a cert; write cert = \"server.pem\"",
    );
    check_example(
        "server.pem",
        "nowhere.pem",
        "16: cert \"nowhere.pem\" cannot be read: No such file or directory (os error 2); write a path relative to the \
         configuration's directory (nowhere.pem was tried)",
    );
    check_example(
        "\"server.pem\"",
        "\"server.key\"",
        "16: server.key has no certificate; write the path of a PEM file with BEGIN CERTIFICATE",
    );
    check_example(
        "\"server.key\"",
        "\"server.pem\"",
        "36: server.pem has no private key; write the path of a PEM file with an unencrypted BEGIN PRIVATE KEY",
    );
    check_example(
        ", client_ca = \"ca.pem\"",
        "",
        "7: client_cert needs authorities; write client_ca = \"ca.pem\"",
    );
    check_example(
        ", client_cert = \"required\", identity = \"cn\"",
        "",
        &format!("62: client_ca {NOTHING}"),
    );
    check_example(
        "client_ca = \"ca.pem\", client_cert = \"required\", ",
        "",
        &format!("61: identity {NOTHING}"),
    );
    check_example(
        "\"required\"",
        "\"yes\"",
        "86: client_cert \"yes\" is unknown; write \"none\", \"optional\" or \"required\"",
    );
    check_example(
        "\"cn\"",
        "\"dn\"",
        "109: identity \"dn\" is unknown; write \"cn\", \"san\" or \"fingerprint\"",
    );
}

#[test]
fn files_that_cannot_be_read() {
    let unreadable = |path: &str| Config::load(Path::new(path), &BUILTINS).unwrap_err().to_string();
    assert_eq!(
        unreadable("no/such.toml"),
        "no/such.toml: cannot be read: No such file or directory (os error 2); write --config FILE with a readable TOML file"
    );
    assert!(unreadable("/dev/zero").contains("it is over 4194304 bytes"));
    let directory = example_directory();
    fs::remove_file(directory.path().join("passwd")).unwrap();
    fs::create_dir(directory.path().join("passwd")).unwrap();
    let errors = parse(EXAMPLE, directory.path()).unwrap_err().to_string();
    assert_eq!(
        errors,
        "f.toml:84:19: users \"passwd\" is not a file; write the path of one"
    );
}

#[test]
fn a_response_information_is_a_topic() {
    check(
        "[broker]\nresponse_information = \"a/#\"",
        "2:24: response_information \"a/#\" is no topic: a topic name must not contain the wildcards + and #; write a topic without wildcards, or \"\"",
    );
}

#[test]
fn shadows_of_nobody() {
    check_plugin(
        "shadow_of = \"b\"",
        "4:13: shadow_of does nothing where the plugin is obeyed; write mode = \"shadow\", or remove it",
    );
    check_plugin(
        "mode = \"shadow\"\nshadow_of = \"b\"",
        "5:13: shadow_of \"b\" names no [[plugin]]; write the name of an enforced one",
    );
    check_plugin(
        "mode = \"shadow\"\nshadow_of = \"B 1\"",
        "5:13: shadow_of \"B 1\" is not a name; write 1 to 64 of a-z, 0-9, - and _",
    );
    let two = |first: &str, second: &str| {
        let plugin =
            |name: &str, more: &str| format!("[[plugin]]\nname = \"{name}\"\ncomponent = \"builtin:acl\"\n{more}\n");
        plugin("a", first) + &plugin("b", second)
    };
    check(
        &two("mode = \"shadow\"", "mode = \"shadow\"\nshadow_of = \"a\""),
        "9:13: shadow_of \"a\" names a plugin in shadow mode; write the name of an enforced one",
    );
    check(
        &two("mode = \"shadow\"\nshadow_of = \"a\"", ""),
        "5:13: shadow_of \"a\" names a plugin in shadow mode; write the name of an enforced one",
    );
    check(
        &two(
            "hooks = [\"transform\"]",
            "mode = \"shadow\"\nhooks = [\"authorize\"]\nshadow_of = \"a\"",
        ),
        "10:13: shadow_of \"a\" names a plugin with other hooks; write the name of one with a hook of this",
    );
}

/// A second listener with these keys is refused.
#[track_caller]
fn check_listener(keys: &str, expected: &str) {
    check(&format!("[[listener]]\nbind = \"[::1]:1884\"\n{keys}"), expected);
}

#[test]
fn transports_of_listeners() {
    check_listener(
        "path = \"/mqtt\"\nallowed_origins = []",
        "1:1: path does nothing without WebSocket; write transport = \"ws\", or remove it\n\
         1:1: allowed_origins does nothing without WebSocket; write transport = \"ws\", or remove it",
    );
    check_listener(
        "transport = \"ws\"\npath = \"mqtt\"",
        "4:8: path \"mqtt\" is not a path; write for example \"/mqtt\"",
    );
    check_listener(
        "transport = \"ws\"\nallowed_origins = [\"app.example.com\", \"https://a/\"]",
        "4:20: allowed_origins \"app.example.com\" is not an origin: scheme, host and port, no path; write for example \
         \"https://app.example.com\"\n\
         4:39: allowed_origins \"https://a/\" is not an origin: scheme, host and port, no path; write for example \
         \"https://app.example.com\"",
    );
    check_listener(
        "proxy_protocol = [\"10.0.0.1/8\"]",
        "3:19: proxy_protocol \"10.0.0.1/8\" is not a network; write for example \"10.0.0.0/8\", \"192.0.2.7\" or \
         \"2001:db8::/32\"",
    );
    check_listener(
        "proxy_protocol = []",
        "3:18: proxy_protocol is empty; remove it for the default, or write [\"10.0.0.0/8\"]",
    );
}

#[test]
fn what_a_listener_has_of_its_own() {
    check_listener(
        "authenticators = [\"password\"]",
        "2:8: authenticators of this listener has \"password\"; write the name of an enforced [[plugin]]",
    );
    check_listener(
        "max_packet_bytes = 1_048_577",
        "2:8: max_packet_bytes = 1048577 of this listener is over that of [limits]; write at most 1048576",
    );
    check_listener(
        "max_connections = 0",
        "3:19: max_connections = 0 is out of range; write a number from 1 to 10000000",
    );
    check_listener(
        "connect_timeout_ms = 99",
        "3:22: connect_timeout_ms = 99 is out of range; write a number from 100 to 600000",
    );
    check_listener(
        "proxy_protocol = [\"10.0.0.0/8\"]\nanonymous = \"loopback\"",
        "2:8: behind a proxy nobody is known to be on this machine; write anonymous = \"deny\" or \"allow\"",
    );
}

#[test]
fn a_dual_stack_listener_takes_the_port_of_both_families() {
    check(
        "[[listener]]\nbind = \"[::]:1883\"",
        "4:8: bind \"127.0.0.1:1883\" is taken by \"[::]:1883\" of this file; write another port",
    );
    check(
        "[[listener]]\nbind = \"[::ffff:127.0.0.1]:1883\"",
        "4:8: bind \"127.0.0.1:1883\" is taken by \"[::ffff:127.0.0.1]:1883\" of this file; write another port",
    );
}
