//! What a component says it wants to be granted, beyond what its imports show: lines of the custom section `nervewire:grants`,
//! which the SDK's `grants!` writes into its code. A configuration can then be refused before the plugin misses anything.

use crate::error::LoadError;
use crate::sections;
use crate::spec::Grant;

const SECTION: &str = "nervewire:grants";

/// What the component declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// It cannot do its work without them.
    pub(crate) grants: Vec<Grant>,
    /// It imports HTTP, and works without, too.
    pub(crate) http_is_optional: bool,
}

impl Wanted {
    /// Reads what `component`, which compiled, declares.
    pub(crate) fn of(component: &[u8]) -> Result<Self, LoadError> {
        let mut wanted = Self::default();
        let texts = sections::custom(component, SECTION)
            .into_iter()
            .map(String::from_utf8_lossy);
        let texts: Vec<_> = texts.collect();
        let lines = texts
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| line.trim_matches('\0').trim());
        for line in lines.filter(|line| !line.is_empty()) {
            match line.split_once(' ') {
                Some(("optional", "http")) => wanted.http_is_optional = true,
                Some(("wanted", grant)) => {
                    let grant = grant
                        .parse()
                        .map_err(|error| LoadError::Contract(format!("it wants the grant `{grant}`: {error}")))?;
                    if !wanted.grants.contains(&grant) {
                        wanted.grants.push(grant);
                    }
                }
                _ => {
                    return Err(LoadError::Contract(format!(
                        "it declares `{line}`, which this version does not know"
                    )));
                }
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(sections: &str) -> Result<Wanted, String> {
        let text = format!("(component (component (core module {sections})) (core module))");
        Wanted::of(&wat::parse_str(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_component_says_what_it_wants() {
        assert_eq!(wanted(""), Ok(Wanted::default()));
        assert_eq!(wanted("(@custom \"other\" \"wanted nonsense\")"), Ok(Wanted::default()));
        let two = "(@custom \"nervewire:grants\" \"wanted publish:alerts/#\\noptional http\\n\")
                   (@custom \"nervewire:grants\" \"wanted kv\\nwanted kv\\n\")";
        let expected = Wanted {
            grants: vec![Grant::Publish("alerts/#".to_owned()), Grant::Kv],
            http_is_optional: true,
        };
        assert_eq!(wanted(two), Ok(expected));
    }

    #[test]
    fn what_this_version_does_not_know_is_refused() {
        let check = |line: &str, part: &str| {
            let error = wanted(&format!("(@custom \"nervewire:grants\" \"{line}\\n\")")).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("wanted root", "`root`");
        check("wanted publish:a/#/b", "publish:a/#/b");
        check("perhaps kv", "perhaps kv");
    }

    #[test]
    fn a_cut_off_binary_wants_nothing() {
        let binary =
            wat::parse_str("(component (core module (@custom \"nervewire:grants\" \"wanted kv\\n\")))").unwrap();
        for length in 0..binary.len() {
            let _ = Wanted::of(&binary[..length]);
        }
        assert_eq!(Wanted::of(&binary).unwrap().grants, [Grant::Kv]);
    }
}
