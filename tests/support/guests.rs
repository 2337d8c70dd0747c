//! Components of tests/guests.

#[path = "../guests/build_guests.rs"]
#[allow(unreachable_pub)] // The file is also a module of other packages' tests.
mod build_guests;

pub(crate) use build_guests::component as guest;

/// What the component `generation` carries, followed by four digits.
const MARK: &[u8] = b"nervewire-test-generation:";

/// The component that tags each message with this number.
pub(crate) fn generation_guest(number: u32) -> Vec<u8> {
    let mut component = guest("generation");
    let at = component
        .windows(MARK.len())
        .position(|window| window == MARK)
        .expect("the mark")
        + MARK.len();
    component[at..at + 4].copy_from_slice(format!("{number:04}").as_bytes());
    component
}
