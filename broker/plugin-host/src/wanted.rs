//! What a component says it wants to be granted, beyond what its imports show: lines of the custom section `nervewire:grants`,
//! which the SDK's `grants!` writes into its code. A configuration can then be refused before the plugin misses anything.

use crate::error::LoadError;
use crate::spec::Grant;

const SECTION: &[u8] = b"nervewire:grants";

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
        let mut lines = Vec::new();
        // The code of a component is in core modules, one or two levels deep.
        collect(component, MAX_NESTING, &mut lines);
        for line in lines.iter().filter(|line| !line.is_empty()) {
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

const MAX_NESTING: usize = 8;
/// `\0asm`, version and layer.
const PREAMBLE_BYTES: usize = 8;
/// Of a component: a core module, a component.
const NESTED: [u8; 2] = [1, 4];
/// The layer of a component; a core module has 0.
const COMPONENT_LAYER: u8 = 1;

fn collect(binary: &[u8], nesting: usize, lines: &mut Vec<String>) {
    let is_component = binary.get(6) == Some(&COMPONENT_LAYER);
    let mut rest = binary.get(PREAMBLE_BYTES..).unwrap_or_default();
    while let Some((id, contents)) = section(&mut rest) {
        if id == 0 {
            let mut contents = contents;
            if let Some(SECTION) = sized(&mut contents) {
                let text = String::from_utf8_lossy(contents);
                lines.extend(text.lines().map(|line| line.trim_matches('\0').trim().to_owned()));
            }
        } else if is_component && NESTED.contains(&id) && nesting > 0 {
            collect(contents, nesting - 1, lines);
        }
    }
}

fn section<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (id, after) = rest.split_first()?;
    *rest = after;
    Some((*id, sized(rest)?))
}

/// Bytes with their number before them.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = leb128(rest)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

fn leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut number: u64 = 0;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(number).ok();
        }
    }
    None
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
