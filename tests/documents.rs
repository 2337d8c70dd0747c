//! The tables of README.md against what the code says: defaults, metrics, bounds, commands. What the README tells to type is
//! tested by readme.rs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn the_configuration_table_has_every_key_with_its_default() {
    let readme = read("README.md");
    let defaults: toml::Table = read("broker/server/src/config/defaults.toml").parse().expect("TOML");
    for section in ["broker", "auth", "limits", "reload", "detect", "admin"] {
        for (key, value) in defaults[section].as_table().expect(section) {
            let row = row(&readme, &format!("{section}.{key}"));
            let shown = row.replace('_', "");
            let value = value.to_string().replace('_', "");
            assert!(
                shown.starts_with(&format!("`{value}` |")),
                "{section}.{key} is {value}, not {row}"
            );
        }
    }
}

#[test]
fn the_metrics_table_has_every_metric_and_no_other() {
    let readme = read("README.md");
    let in_readme = names(&readme, "`nervewire_", |c| c != '`' && c != '{');
    let in_code = names(&read("broker/server/src/admin/metrics.rs"), "\"nervewire_", |c| {
        c != '"'
    });
    // The encoder appends the unit, and `_total` to what counts.
    let plain = |name: &String| name.trim_end_matches("_total").trim_end_matches("_seconds").to_owned();
    assert_eq!(
        in_readme.iter().map(plain).collect::<BTreeSet<_>>(),
        in_code.iter().map(plain).collect()
    );
}

#[test]
fn the_table_of_limits_has_every_bound_that_is_counted() {
    let readme = read("README.md");
    let limits = &readme[readme.find("\n## Limits").expect("## Limits")..];
    for (file, function) in [
        ("broker/server/src/metrics.rs", "fn bounds_hit("),
        ("broker/server/src/admin/api.rs", "fn bounds_hit("),
    ] {
        let source = read(file);
        let (_, body) = source.split_once(function).expect(function);
        let (body, _) = body.split_once("\n}").expect("its end");
        let counted = names(body, "(\"", |c| c != '"');
        assert!(!counted.is_empty(), "{file}");
        for bound in counted.iter().map(|bound| bound.trim_start_matches('"')) {
            assert!(limits.contains(&format!("`{bound}`")), "no bound {bound} in README.md");
        }
    }
}

/// A promise without a test is none.
#[test]
fn every_test_that_security_names_exists() {
    let security = read("SECURITY.md");
    let named: Vec<_> = security
        .split('`')
        .filter_map(|quoted| quoted.split_once(".rs::"))
        .map(|(file, test)| (format!("{file}.rs"), test))
        .collect();
    assert!(named.len() > 50, "{named:?}");
    for (file, test) in named {
        let source = read(&file);
        let (before, _) = source
            .split_once(&format!("fn {test}("))
            .unwrap_or_else(|| panic!("no {test} in {file}"));
        let attributes = before
            .rsplit_once("#[test]")
            .unwrap_or_else(|| panic!("{test} in {file} is no test"))
            .1;
        assert!(!attributes.contains("fn "), "{test} in {file} is no test");
    }
    let (_, classes) = security
        .split_once("| published | class |")
        .expect("the table of classes");
    for row in classes.lines().skip(2).take_while(|line| line.starts_with('|')) {
        assert!(row.contains(".rs::"), "a class without a test: {row}");
    }
}

#[test]
fn the_total_of_the_fuzzing_log_is_the_one_that_security_tells() {
    let log = read("tests/fuzz/LOG.md");
    let runs: Vec<Vec<&str>> = log
        .lines()
        .filter(|line| line.starts_with("| 20"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let sum = |column: usize| {
        runs.iter()
            .map(|run| run[column].parse::<u64>().expect("a number"))
            .sum::<u64>()
    };
    let total = format!(
        "Fuzzing so far: {} runs, {} CPU-seconds ({:.2} CPU-hours), {} executions, {} findings.",
        runs.len(),
        sum(4),
        sum(4) as f64 / 3600.0,
        sum(5),
        sum(7)
    );
    assert!(
        read("SECURITY.md").contains(&total),
        "SECURITY.md does not say: {total}"
    );
}

#[test]
fn the_table_of_commands_has_every_command() {
    let readme = read("README.md");
    let help = Command::new(env!("CARGO_BIN_EXE_nervewire"))
        .arg("--help")
        .output()
        .expect("run nervewire");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let (_, commands) = help.split_once("Commands:\n").expect("commands");
    // Long descriptions are wrapped, and go on further to the right.
    let lines = commands.lines().map_while(|line| line.strip_prefix("  "));
    let lines = lines.filter(|line| !line.starts_with(' '));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 5, "{help}");
    for name in names {
        assert!(
            readme.contains(&format!("`nervewire {name}")),
            "no nervewire {name} in README.md"
        );
    }
}

/// What a table says about a key, from its second column on.
fn row<'a>(text: &'a str, key: &str) -> &'a str {
    let start = format!("| `{key}` | ");
    let mut rows = text.lines().filter_map(|line| line.strip_prefix(&start));
    rows.next().unwrap_or_else(|| panic!("no row for {key}"))
}

/// Everything that begins with `start`, as far as `goes_on`; without the quote it begins with.
fn names(text: &str, start: &str, goes_on: impl Fn(char) -> bool) -> BTreeSet<String> {
    let places = text.match_indices(start).map(|(at, _)| &text[at + 1..]);
    let end = |rest: &str| {
        rest[start.len() - 1..]
            .find(|c| !goes_on(c))
            .map(|at| at + start.len() - 1)
    };
    places
        .filter_map(|rest| end(rest).map(|end| rest[..end].to_owned()))
        .collect()
}

fn read(file: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
