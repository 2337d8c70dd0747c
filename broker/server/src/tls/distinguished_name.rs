//! Distinguished names as RFC 4514 strings. Plugins compare them, so what a certificate holds is escaped: a common name such
//! as `a,O=Admins` never reads as two attributes.

use std::fmt::Write;
use x509_parser::asn1_rs::ToDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Object identifiers with their descriptors: the table of RFC 4514 section 3, and three more that are registered and common.
const DESCRIPTORS: [(&str, &str); 12] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.12", "title"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The name, most specific part first (RFC 4514 section 2.1 reverses the order of the encoding).
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.reverse();
    parts.join(",")
}

/// An attribute's value, where it is a text.
pub(super) fn attribute_text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    use x509_parser::asn1_rs::Tag;
    let value = attribute.attr_value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            String::from_utf8(value.data.to_vec()).ok()
        }
        Tag::BmpString => utf16(value.data),
        _ => None,
    }
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks();
    let units: Vec<_> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
    String::from_utf16(&units).ok().filter(|_| rest.is_empty())
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let identifier = attribute.attr_type().to_id_string();
    let descriptor = DESCRIPTORS.iter().find(|(known, _)| *known == identifier);
    match (descriptor, attribute_text(attribute)) {
        (Some((_, descriptor)), Some(text)) => format!("{descriptor}={}", escape(&text)),
        // RFC 4514 section 2.4: no descriptor or no text form, so the encoding itself.
        _ => format!(
            "{identifier}=#{}",
            super::facts::hexadecimal(&attribute.attr_value().to_der_vec().unwrap_or_default())
        ),
    }
}

/// RFC 4514 section 2.4; control characters are escaped too, for the sake of logs.
fn escape(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => escaped.extend(['\\', c]),
            ' ' if index == 0 || index == last => escaped.push_str("\\ "),
            '#' if index == 0 => escaped.push_str("\\#"),
            c if c.is_control() => c.to_string().bytes().for_each(|byte| {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\{byte:02X}");
            }),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(escape(text), expected);
    }

    #[test]
    fn special_characters_are_escaped() {
        check("James \"Jim\" Smith, III", "James \\\"Jim\\\" Smith\\, III");
        check("Before\rAfter", "Before\\0DAfter");
        check("a,O=Admins", "a\\,O=Admins");
        check(" a b ", "\\ a b\\ ");
        check(" ", "\\ ");
        check("#a#", "\\#a#");
        check("a+b;c<d>e\\f", "a\\+b\\;c\\<d\\>e\\\\f");
        check("nul\0", "nul\\00");
        check("Lučić", "Lučić");
    }

    #[test]
    fn basic_multilingual_plane_strings_are_read() {
        assert_eq!(utf16(&[0, b'a', 0x01, 0x0d]).as_deref(), Some("ač"));
        assert_eq!(utf16(&[0, b'a', 0]), None);
        assert_eq!(utf16(&[0xd8, 0]), None);
    }
}
