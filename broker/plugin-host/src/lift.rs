//! The answers to a batch, read from the guest's memory in one piece. Derived code looks memory and types up for each of them, and most
//! of them say nothing but "pass".
//!
//! The layout is the canonical ABI's, as in `lower.rs`. All that lies there is the guest's to say, and untrusted.

#![allow(unsafe_code)] // To implement `Lift` is to promise what its documentation asks for, as the derived code does.

use crate::answer;
use crate::wire;
use nervewire_core::hook::Verdict;
use nervewire_core::shard::MAX_BATCH_MESSAGES;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext};
use wasmtime::component::{ComponentType, Lift};
use wasmtime::{Result, bail};

/// The answers to a batch.
pub(crate) struct AnswerList<L>(pub(crate) L);

pub(crate) type Verdicts = Vec<Verdict>;

/// What a transform said.
pub(crate) struct Transformations {
    /// How often.
    pub(crate) number: usize,
    /// Those that are `pass`: bit N stands for the one at position N.
    pub(crate) passed: u32,
    /// The others, each with its position.
    pub(crate) others: Vec<(usize, wire::Transformation)>,
}

const _: () = assert!(MAX_BATCH_MESSAGES <= u32::BITS as usize);

/// What a list of elements is read as.
pub(crate) trait List: Sized + Send + Sync {
    type Element: ComponentType;

    fn read(cx: &mut LiftContext<'_>, element: InterfaceType, list: &[u8]) -> Result<Self>;
}

const VERDICT_BYTES: usize = 12;
const _: () = assert!(<wire::Verdict as ComponentType>::SIZE32 == VERDICT_BYTES);

impl List for Verdicts {
    type Element = wire::Verdict;

    fn read(_: &mut LiftContext<'_>, _: InterfaceType, list: &[u8]) -> Result<Self> {
        let (verdicts, _) = list.as_chunks::<VERDICT_BYTES>();
        verdicts.iter().map(verdict).collect()
    }
}

fn verdict(record: &[u8; VERDICT_BYTES]) -> Result<Verdict> {
    let [decision, _, _, _, cache_milliseconds @ .., depends_on, _, _, _] = *record;
    let decision = match decision {
        0 => wire::Decision::Allow,
        1 => wire::Decision::Deny,
        2 => wire::Decision::Abstain,
        other => bail!("{other} is no decision"),
    };
    let mut dependencies = wire::Dependencies::empty();
    for (bit, dependency) in [
        wire::Dependencies::CLIENT,
        wire::Dependencies::USER,
        wire::Dependencies::TOPIC,
    ]
    .into_iter()
    .enumerate()
    {
        if depends_on & 1 << bit != 0 {
            dependencies |= dependency;
        }
    }
    Ok(answer::verdict(wire::Verdict {
        decision,
        cache_milliseconds: u32::from_le_bytes(cache_milliseconds),
        depends_on: dependencies,
    }))
}

impl List for Transformations {
    type Element = wire::Transformation;

    fn read(cx: &mut LiftContext<'_>, element: InterfaceType, list: &[u8]) -> Result<Self> {
        /// The discriminant, a byte, of the first case.
        const PASS: u8 = 0;
        let records = list.chunks_exact(wire::Transformation::SIZE32);
        let mut answers = Self {
            number: records.len(),
            passed: 0,
            others: Vec::new(),
        };
        for (position, record) in records.enumerate() {
            if record.first() == Some(&PASS) {
                answers.passed |= 1 << position;
            } else {
                let other = wire::Transformation::linear_lift_from_memory(cx, element, record)?;
                answers.others.push((position, other));
            }
        }
        Ok(answers)
    }
}

/// Reads the list to which `reference` refers.
fn lift<L: List>(cx: &mut LiftContext<'_>, ty: InterfaceType, reference: &[u8]) -> Result<L> {
    let InterfaceType::List(list) = ty else {
        bail!("not a list")
    };
    let element = cx.types[list].element;
    let (Some(address), Some(number)) = (reference.first_chunk(), reference.last_chunk()) else {
        bail!("no list")
    };
    let (address, number) = (u32::from_le_bytes(*address), u32::from_le_bytes(*number));
    // What the host allocates for it is bounded by this.
    if number as usize > MAX_BATCH_MESSAGES {
        bail!("{number} answers, which are more than there are ever questions")
    }
    if !address.is_multiple_of(L::Element::ALIGN32) {
        bail!("the answers are not aligned")
    }
    let bytes = number as usize * L::Element::SIZE32;
    let Some(records) = cx.memory().get(address as usize..).and_then(|rest| rest.get(..bytes)) else {
        bail!("answers beyond the guest's memory")
    };
    L::read(cx, element, records)
}

// SAFETY: on the other side it is a list of the elements.
unsafe impl<L: List> ComponentType for AnswerList<L> {
    type Lower = <[L::Element] as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <[L::Element] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <[L::Element] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: what is read is within the guest's memory, and every value of every byte has a meaning or is refused.
unsafe impl<L: List> Lift for AnswerList<L> {
    /// A list is more numbers than a result has outside of memory.
    fn linear_lift_from_flat(_: &mut LiftContext<'_>, _: InterfaceType, _: &Self::Lower) -> Result<Self> {
        bail!("a list that is returned in memory")
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Self> {
        lift(cx, ty, bytes).map(Self)
    }
}
