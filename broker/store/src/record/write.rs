//! The primitives that records are written with. Nothing here fails: what a record holds has a place in a record.

use nervewire_codec::Utf8String;
use std::sync::Arc;

pub(super) fn u8(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

pub(super) fn boolean(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// LEB128: seven bits a byte, the lowest first.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Zigzag: small negative numbers stay short.
pub(super) fn signed(out: &mut Vec<u8>, value: i64) {
    number(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(super) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    bytes(out, value.as_bytes());
}

pub(super) fn option<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    boolean(out, value.is_some());
    if let Some(value) = value {
        write(out, value);
    }
}

pub(super) fn optional_text(out: &mut Vec<u8>, value: Option<&Arc<str>>) {
    option(out, value, |out, value| text(out, value));
}

pub(super) fn optional_string(out: &mut Vec<u8>, value: Option<&Utf8String>) {
    option(out, value, |out, value| text(out, value));
}

pub(super) fn optional_number(out: &mut Vec<u8>, value: Option<u64>) {
    option(out, value, number);
}

pub(super) fn list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    number(out, items.len() as u64);
    items.iter().for_each(|item| write(out, item));
}
