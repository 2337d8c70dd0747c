//! What guests say, made fit for a log and for a person's terminal.

/// Bytes of one line; the rest of a longer one is cut off.
pub const MAX_LOG_LINE_BYTES: usize = 4096;

/// Cut to [`MAX_LOG_LINE_BYTES`], and with control characters escaped: a guest must not forge lines or drive terminals.
pub(crate) fn printable(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(MAX_LOG_LINE_BYTES)];
    let mut out = String::with_capacity(cut.len());
    for c in cut.chars() {
        match c.is_control() && c != '\t' {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_lines_cut_between_characters() {
        let check = |text: &str, expected: &str| assert_eq!(printable(text), expected);
        check("plain ü", "plain ü");
        check("a\nb\u{1b}[31m", "a\\nb\\u{1b}[31m");
        check(&"ü".repeat(3000), &"ü".repeat(2048));
        check(&format!("x{}", "ü".repeat(3000)), &format!("x{}", "ü".repeat(2047)));
    }
}
