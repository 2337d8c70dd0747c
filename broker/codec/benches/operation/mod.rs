//! What is measured, by name: divan times it, and `tests/load/instructions.sh` has one of them run a given number of times.

use std::{env, fmt};

/// One thing to measure.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    name: &'static str,
    /// Does what is not to be measured and answers what is.
    pub(crate) prepare: fn() -> Box<dyn FnMut()>,
}

impl Operation {
    pub(crate) const fn new(name: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Self {
        Self { name, prepare }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What a benchmark of operations does: what the environment asks for, else divan's.
pub(crate) fn main(operations: &[Operation]) {
    if !run_by_environment(operations) {
        divan::main();
    }
}

/// Does what the environment asks for: `OPERATION=list` prints the names, and `OPERATION=name REPEAT=n` runs one of them.
/// `false`: it asks for nothing.
fn run_by_environment(operations: &[Operation]) -> bool {
    let Ok(wanted) = env::var("OPERATION") else {
        return false;
    };
    if wanted == "list" {
        operations.iter().for_each(|operation| println!("{operation}"));
        return true;
    }
    let repeat = env::var("REPEAT").ok().and_then(|n| n.parse::<u32>().ok());
    let repeat = repeat.expect("REPEAT is a number");
    let operation = operations.iter().find(|operation| operation.name == wanted);
    let mut run = (operation.expect("an operation of the list").prepare)();
    (0..repeat).for_each(|_| run());
    true
}
