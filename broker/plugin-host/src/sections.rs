//! Custom sections of a component's code: what its author's tools say to the host, beside what runs.

/// The contents of all sections of that name in a component's core modules, as far as it is well-formed.
pub(crate) fn custom<'a>(component: &'a [u8], name: &str) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    // The code of a component is in core modules, one or two levels deep.
    collect(component, name, MAX_NESTING, &mut found);
    found
}

const MAX_NESTING: usize = 8;
/// `\0asm`, version and layer.
const PREAMBLE_BYTES: usize = 8;
/// Of a component: a core module, a component.
const NESTED: [u8; 2] = [1, 4];
/// The layer of a component; a core module has 0.
const COMPONENT_LAYER: u8 = 1;

fn collect<'a>(binary: &'a [u8], name: &str, nesting: usize, found: &mut Vec<&'a [u8]>) {
    let is_component = binary.get(6) == Some(&COMPONENT_LAYER);
    let mut rest = binary.get(PREAMBLE_BYTES..).unwrap_or_default();
    while let Some((id, contents)) = section(&mut rest) {
        if id == 0 {
            let mut contents = contents;
            if sized(&mut contents) == Some(name.as_bytes()) {
                found.push(contents);
            }
        } else if is_component && NESTED.contains(&id) && nesting > 0 {
            collect(contents, name, nesting - 1, found);
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
