//! The known word that somebody probably meant.

/// Below this similarity (0 to 1) a suggestion is more likely to mislead than to help.
const ENOUGH: f64 = 0.5;

/// The known word most like `word`, if one is like it at all; `-` for `_` and letter case do not count as differences.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let similarity = |candidate: &str| strsim::normalized_damerau_levenshtein(&word, &candidate.replace('-', "_"));
    known
        .iter()
        .map(|candidate| (similarity(candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= ENOUGH)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expected: Option<&str>) {
        let known = [
            "bind",
            "transport",
            "tls",
            "max_packet_bytes",
            "queue_bytes",
            "queue_messages",
        ];
        assert_eq!(nearest(word, &known), expected, "{word}");
    }

    #[test]
    fn a_misspelled_word_finds_its_neighbour() {
        check("bnid", Some("bind"));
        check("max-packet-bytes", Some("max_packet_bytes"));
        check("Queue_Message", Some("queue_messages"));
        check("max_packet_size", Some("max_packet_bytes"));
        check("tsl", Some("tls"));
    }

    #[test]
    fn an_unrelated_word_finds_nothing() {
        check("colour", None);
        check("", None);
    }
}
