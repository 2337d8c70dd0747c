//! The records of a call, each written into the guest's memory in one piece, and what it refers to into the guest's call arena, where
//! it has one. Derived code stores field by field, looks the guest's memory up for each of them, and enters the guest for each text
//! and list.
//!
//! The layout is the canonical ABI's for 32-bit memories, the only ones that the engine has: fields in their order, each aligned to its
//! size, texts and lists as address and length, options with a byte before them. That the sizes agree is checked when this is
//! compiled; that every field arrives, by the tests with guests. What it builds on is what wasmtime's derived code builds on and may
//! change with any release of it: then `derive(Lower)` in `wire.rs` is the way back.

#![allow(unsafe_code)] // To implement `Lower` is to promise what its documentation asks for, as the derived code does.

use crate::call_arena::CallArena;
use crate::wire::{CertificateRef, ClientRef, MessageRef, PropertyRef, RequestRef};
use std::mem::MaybeUninit;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext};
use wasmtime::component::{ComponentNamedList, ComponentType, Lower};
use wasmtime::{Result, ValRaw, bail};

/// A record, and where what it refers to may be put.
pub(crate) struct Placed<'a, R> {
    pub(crate) record: R,
    pub(crate) arena: &'a CallArena,
}

/// The parameters of a call that are too many to be passed outside of memory, and where they may be put. Left to wasmtime, the guest
/// is entered once more, to allocate them.
pub(crate) struct InMemory<'a, Params> {
    pub(crate) params: Params,
    pub(crate) arena: &'a CallArena,
}

/// More are passed in memory: the canonical ABI's number, which wasmtime keeps to itself.
const MAX_FLAT_PARAMS: usize = 16;

impl<Params: ComponentType> InMemory<'_, Params> {
    /// Otherwise the guest would take the address for the first of them.
    const ARE_MANY: () = assert!(size_of::<Params::Lower>() / size_of::<ValRaw>() > MAX_FLAT_PARAMS);
}

// SAFETY: on the other side they are the parameters and nothing else, passed as the canonical ABI passes so many: by one number, their
// address.
unsafe impl<Params: ComponentType> ComponentType for InMemory<'_, Params> {
    type Lower = [ValRaw; 1];
    const ABI: CanonicalAbiInfo = Params::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        Params::typecheck(ty, types)
    }
}

// SAFETY: as for the parameters, which are checked.
unsafe impl<Params: ComponentNamedList> ComponentNamedList for InMemory<'_, Params> {}

// SAFETY: the address is one in the guest's call arena, with room for the parameters behind it, or of an allocation of the guest, which
// wasmtime checks; what is written there is the parameters' own doing.
unsafe impl<Params: Lower> Lower for InMemory<'_, Params> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        let () = Self::ARE_MANY;
        let address = allocate(cx, self.arena, Params::ALIGN32, Params::SIZE32)?;
        self.params.linear_lower_to_memory(cx, ty, address)?;
        dst.write([ValRaw::i64(address as i64)]);
        Ok(())
    }

    /// Parameters are in no other value.
    fn linear_lower_to_memory<T>(&self, _: &mut LowerContext<'_, T>, _: InterfaceType, _: usize) -> Result<()> {
        bail!("the parameters of a call")
    }
}

/// Room for so many bytes, more than none, that are the guest's from then on: in its call arena, else where its allocator says, which
/// wasmtime checks.
fn allocate<T>(cx: &mut LowerContext<'_, T>, arena: &CallArena, align: u32, bytes: usize) -> Result<usize> {
    let Some(chunk) = arena.room(cx, bytes + align as usize - 1)? else {
        return cx.realloc(0, 0, align, bytes);
    };
    let address = chunk.next().next_multiple_of(align as usize);
    chunk.fill(cx.as_slice_mut(), address + bytes, 1);
    Ok(address)
}

// SAFETY: on the other side it is the record and nothing else.
unsafe impl<R: ComponentType> ComponentType for Placed<'_, R> {
    type Lower = R::Lower;
    const ABI: CanonicalAbiInfo = R::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        R::typecheck(ty, types)
    }
}

// SAFETY: what is written is within the record's place and within allocations of the guest, which is checked.
unsafe impl<R: Record> Lower for Placed<'_, R> {
    /// A parameter of a call has more fields than are passed outside of memory.
    fn linear_lower_to_flat<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        bail!("a record that is passed in memory")
    }

    fn linear_lower_to_memory<T>(&self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, offset: usize) -> Result<()> {
        lower_record(&self.record, self.arena, cx, ty, offset)
    }
}

fn lower_record<R: Record, T>(
    record: &R,
    arena: &CallArena,
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    offset: usize,
) -> Result<()> {
    arena.find(cx)?;
    match write_in_arena(record, arena, cx.as_slice_mut(), offset)? {
        true => Ok(()),
        false => record.write(&mut Allocated { cx, ty }, offset),
    }
}

/// Answers whether there was room.
#[inline]
fn write_in_arena(record: &impl Record, arena: &CallArena, memory: &mut [u8], offset: usize) -> Result<bool> {
    let Some(chunk) = arena.room_in(memory, record.referred_bytes()) else {
        return Ok(false);
    };
    let mut place = InArena {
        memory,
        next: chunk.next(),
        allocations: 0,
    };
    record.write(&mut place, offset)?;
    chunk.fill(place.memory, place.next, place.allocations);
    Ok(true)
}

/// A list of records, at least one, what they are made of, and where they and what they refer to may be put.
pub(crate) struct PlacedList<'a, S> {
    pub(crate) sources: &'a [S],
    pub(crate) arena: &'a CallArena,
}

/// What a record is made of.
pub(crate) trait Source: Send + Sync {
    type Record<'r>: Record;

    /// Makes the record, and hands it on.
    fn with_record<T>(&self, receive: impl FnOnce(&Self::Record<'_>) -> T) -> T;
}

/// The elements of a list made of these.
type Element<S> = <S as Source>::Record<'static>;

// SAFETY: on the other side it is a list of the records.
unsafe impl<S: Source> ComponentType for PlacedList<'_, S> {
    type Lower = <[Element<S>] as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <[Element<S>] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <[Element<S>] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: what is written is the list's address and length, and within an allocation of the guest that has room for all records.
unsafe impl<S: Source> Lower for PlacedList<'_, S> {
    /// It stands behind a client, which has more fields than are passed outside of memory.
    fn linear_lower_to_flat<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        bail!("a list that is passed in memory")
    }

    fn linear_lower_to_memory<T>(&self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, offset: usize) -> Result<()> {
        let InterfaceType::List(list) = ty else {
            bail!("not a list")
        };
        let record_bytes = Element::<S>::SIZE32;
        let address = allocate(cx, self.arena, Element::<S>::ALIGN32, self.sources.len() * record_bytes)?;
        let written = self.write_in_arena(cx.as_slice_mut(), address)?;
        let element = cx.types[list].element;
        for (position, source) in self.sources.iter().enumerate().skip(written) {
            let offset = address + position * record_bytes;
            source.with_record(|record| lower_record(record, self.arena, cx, element, offset))?;
        }
        let mut reference = Fields::<REFERENCE_BYTES>::new();
        reference.reference(0, [address as u32, self.sources.len() as u32]);
        store(cx.as_slice_mut(), &reference.0, offset)
    }
}

impl<S: Source> PlacedList<'_, S> {
    /// Writes records for as long as there is room, and answers how many it were: the guest's memory is looked up once for all of them.
    fn write_in_arena(&self, memory: &mut [u8], address: usize) -> Result<usize> {
        for (position, source) in self.sources.iter().enumerate() {
            let offset = address + position * Element::<S>::SIZE32;
            if !source.with_record(|record| write_in_arena(record, self.arena, memory, offset))? {
                return Ok(position);
            }
        }
        Ok(self.sources.len())
    }
}

/// What is lowered here.
pub(crate) trait Record: ComponentType {
    /// What it refers to takes at most so many bytes.
    fn referred_bytes(&self) -> usize;

    /// Writes it to `offset`.
    fn write(&self, place: &mut impl Place, offset: usize) -> Result<()>;
}

/// Where texts and lists are put. Each answers address and length.
pub(crate) trait Place {
    fn text(&mut self, text: &str) -> Result<Reference>;
    /// `field`: in which field of the record.
    fn bytes(&mut self, field: usize, bytes: &[u8]) -> Result<Reference>;
    fn properties(&mut self, field: usize, properties: &[PropertyRef<'_>]) -> Result<Reference>;
    /// Writes a record to `offset`, which is field `field`'s.
    fn certificate(&mut self, field: usize, certificate: &CertificateRef<'_>, offset: usize) -> Result<()>;
    /// Writes what was put together.
    fn store<const BYTES: usize>(&mut self, record: &[u8; BYTES], offset: usize) -> Result<()>;
}

type Reference = [u32; 2];

/// The guest's allocator is asked for each.
struct Allocated<'c, 'a, T: 'static> {
    cx: &'c mut LowerContext<'a, T>,
    /// The record's type.
    ty: InterfaceType,
}

impl<T> Allocated<'_, '_, T> {
    fn list<L>(&mut self, ty: InterfaceType, list: &L) -> Result<Reference>
    where
        L: Lower + ComponentType<Lower = [ValRaw; 2]> + ?Sized,
    {
        let mut flat = MaybeUninit::new([ValRaw::i64(0); 2]);
        list.linear_lower_to_flat(self.cx, ty, &mut flat)?;
        // SAFETY: it was initialized two lines above.
        let flat = unsafe { flat.assume_init() };
        Ok(flat.map(|value| value.get_u32()))
    }

    /// The type that the guest has for a field of the record.
    fn field(&self, position: usize) -> Result<InterfaceType> {
        let fields = match self.ty {
            InterfaceType::Record(record) => &self.cx.types[record].fields,
            _ => bail!("not a record"),
        };
        match fields.get(position) {
            Some(field) => Ok(field.ty),
            None => bail!("no such field"),
        }
    }
}

impl<T> Place for Allocated<'_, '_, T> {
    fn text(&mut self, text: &str) -> Result<Reference> {
        self.list(InterfaceType::String, text)
    }

    fn bytes(&mut self, field: usize, bytes: &[u8]) -> Result<Reference> {
        let mut ty = self.field(field)?;
        if let InterfaceType::Option(option) = ty {
            ty = self.cx.types[option].ty;
        }
        self.list(ty, bytes)
    }

    fn properties(&mut self, field: usize, properties: &[PropertyRef<'_>]) -> Result<Reference> {
        self.list(self.field(field)?, properties)
    }

    fn certificate(&mut self, field: usize, certificate: &CertificateRef<'_>, offset: usize) -> Result<()> {
        let InterfaceType::Option(option) = self.field(field)? else {
            bail!("not an option")
        };
        let ty = self.cx.types[option].ty;
        certificate.linear_lower_to_memory(self.cx, ty, offset)
    }

    fn store<const BYTES: usize>(&mut self, record: &[u8; BYTES], offset: usize) -> Result<()> {
        store(self.cx.as_slice_mut(), record, offset)
    }
}

/// One after the other in the chunk of the call, which has room for all of them.
struct InArena<'m> {
    memory: &'m mut [u8],
    next: usize,
    allocations: u32,
}

impl InArena<'_> {
    /// An allocation. One without bytes is none, as in the guest's allocator.
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<Reference> {
        let at = self.next;
        if !bytes.is_empty() {
            let Some(place) = self.memory.get_mut(at..at + bytes.len()) else {
                bail!("an arena beyond the guest's memory")
            };
            place.copy_from_slice(bytes);
            self.next += bytes.len();
            self.allocations += 1;
        }
        Ok([at as u32, bytes.len() as u32])
    }

    /// Room for a list of references, which have to be aligned.
    fn references(&mut self, number: usize) -> usize {
        let at = self.next.next_multiple_of(ALIGN);
        if number > 0 {
            self.next = at + number * REFERENCE_BYTES;
            self.allocations += 1;
        }
        at
    }
}

const ALIGN: usize = 4;
const REFERENCE_BYTES: usize = 8;

impl Place for InArena<'_> {
    fn text(&mut self, text: &str) -> Result<Reference> {
        self.put(text.as_bytes())
    }

    fn bytes(&mut self, _: usize, bytes: &[u8]) -> Result<Reference> {
        self.put(bytes)
    }

    fn properties(&mut self, _: usize, properties: &[PropertyRef<'_>]) -> Result<Reference> {
        let list = self.references(properties.len() * 2);
        for (position, property) in properties.iter().enumerate() {
            let mut record = Fields::<{ 2 * REFERENCE_BYTES }>::new();
            record.reference(0, self.put(property.name.as_bytes())?);
            record.reference(REFERENCE_BYTES, self.put(property.value.as_bytes())?);
            store(self.memory, &record.0, list + position * 2 * REFERENCE_BYTES)?;
        }
        Ok([list as u32, properties.len() as u32])
    }

    fn certificate(&mut self, _: usize, certificate: &CertificateRef<'_>, offset: usize) -> Result<()> {
        let mut record = Fields::<CERTIFICATE_BYTES>::new();
        record.reference(0, self.text(certificate.subject)?);
        record.reference(8, self.text(certificate.issuer)?);
        record.optional_text(self, 16, certificate.common_name)?;
        let names = certificate.alternative_names;
        let list = self.references(names.len());
        for (position, name) in names.iter().enumerate() {
            let mut reference = Fields::<REFERENCE_BYTES>::new();
            reference.reference(0, self.put(name.as_bytes())?);
            store(self.memory, &reference.0, list + position * REFERENCE_BYTES)?;
        }
        record.reference(28, [list as u32, names.len() as u32]);
        record.reference(36, self.text(certificate.serial)?);
        record.reference(44, self.text(certificate.fingerprint)?);
        record.number(56, certificate.not_before.to_le_bytes());
        record.number(64, certificate.not_after.to_le_bytes());
        store(self.memory, &record.0, offset)
    }

    fn store<const BYTES: usize>(&mut self, record: &[u8; BYTES], offset: usize) -> Result<()> {
        store(self.memory, record, offset)
    }
}

fn store<const BYTES: usize>(memory: &mut [u8], record: &[u8; BYTES], offset: usize) -> Result<()> {
    let place = memory.get_mut(offset..).and_then(<[u8]>::first_chunk_mut);
    let Some(place) = place else {
        bail!("a record beyond the guest's memory")
    };
    *place = *record;
    Ok(())
}

/// A record that is being put together.
struct Fields<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Fields<BYTES> {
    fn new() -> Self {
        Self([0; BYTES])
    }

    fn byte(&mut self, at: usize, value: u8) {
        self.0[at] = value;
    }

    fn number<const WIDTH: usize>(&mut self, at: usize, value: [u8; WIDTH]) {
        self.0[at..at + WIDTH].copy_from_slice(&value);
    }

    fn reference(&mut self, at: usize, [address, length]: Reference) {
        self.number(at, address.to_le_bytes());
        self.number(at + 4, length.to_le_bytes());
    }

    fn optional_text(&mut self, place: &mut impl Place, at: usize, text: Option<&str>) -> Result<()> {
        let Some(text) = text else { return Ok(()) };
        self.byte(at, 1);
        self.reference(at + 4, place.text(text)?);
        Ok(())
    }
}

fn optional_bytes(text: Option<&str>) -> usize {
    text.map_or(0, str::len)
}

fn properties_bytes(properties: &[PropertyRef<'_>]) -> usize {
    let each = |property: &PropertyRef<'_>| 2 * REFERENCE_BYTES + property.name.len() + property.value.len();
    properties.iter().map(each).sum::<usize>() + ALIGN
}

fn certificate_bytes(certificate: &CertificateRef<'_>) -> usize {
    let names = certificate.alternative_names.iter();
    certificate.subject.len()
        + certificate.issuer.len()
        + optional_bytes(certificate.common_name)
        + names.map(|name| REFERENCE_BYTES + name.len()).sum::<usize>()
        + ALIGN
        + certificate.serial.len()
        + certificate.fingerprint.len()
}

const CLIENT_BYTES: usize = 152;
const CERTIFICATE: usize = 48;
const CERTIFICATE_BYTES: usize = 72;
const _: () = assert!(<ClientRef<'_> as ComponentType>::SIZE32 == CLIENT_BYTES);
const _: () = assert!(<CertificateRef<'_> as ComponentType>::SIZE32 == CERTIFICATE_BYTES);

impl Record for ClientRef<'_> {
    fn referred_bytes(&self) -> usize {
        self.client_id.len()
            + optional_bytes(self.username)
            + self.address.len()
            + self.listener.len()
            + self.certificate.as_ref().map_or(0, certificate_bytes)
            + properties_bytes(self.attributes)
            + optional_bytes(self.tenant)
    }

    fn write(&self, place: &mut impl Place, offset: usize) -> Result<()> {
        let mut record = Fields::<CLIENT_BYTES>::new();
        record.reference(0, place.text(self.client_id)?);
        record.optional_text(place, 8, self.username)?;
        record.reference(20, place.text(self.address)?);
        record.number(28, self.port.to_le_bytes());
        record.reference(32, place.text(self.listener)?);
        record.byte(40, self.protocol as u8);
        record.byte(CERTIFICATE, u8::from(self.certificate.is_some()));
        record.reference(128, place.properties(7, self.attributes)?);
        record.optional_text(place, 136, self.tenant)?;
        place.store(&record.0, offset)?;
        match &self.certificate {
            Some(certificate) => place.certificate(6, certificate, offset + CERTIFICATE + 8),
            None => Ok(()),
        }
    }
}

const REQUEST_BYTES: usize = 16;
const _: () = assert!(<RequestRef<'_> as ComponentType>::SIZE32 == REQUEST_BYTES);

impl Record for RequestRef<'_> {
    fn referred_bytes(&self) -> usize {
        self.topic.len()
    }

    fn write(&self, place: &mut impl Place, offset: usize) -> Result<()> {
        let mut record = Fields::<REQUEST_BYTES>::new();
        record.byte(0, self.action as u8);
        record.reference(4, place.text(self.topic)?);
        record.byte(12, self.qos as u8);
        record.byte(13, u8::from(self.retain));
        place.store(&record.0, offset)
    }
}

const MESSAGE_BYTES: usize = 72;
const _: () = assert!(<MessageRef<'_> as ComponentType>::SIZE32 == MESSAGE_BYTES);

impl Record for MessageRef<'_> {
    fn referred_bytes(&self) -> usize {
        self.topic.len()
            + self.payload.len()
            + optional_bytes(self.content_type)
            + optional_bytes(self.response_topic)
            + self.correlation_data.map_or(0, <[u8]>::len)
            + properties_bytes(self.user_properties)
    }

    fn write(&self, place: &mut impl Place, offset: usize) -> Result<()> {
        let mut record = Fields::<MESSAGE_BYTES>::new();
        record.reference(0, place.text(self.topic)?);
        record.reference(8, place.bytes(1, self.payload)?);
        record.byte(16, self.qos as u8);
        record.byte(17, u8::from(self.retain));
        record.byte(18, u8::from(self.payload_is_utf8));
        record.optional_text(place, 20, self.content_type)?;
        record.optional_text(place, 32, self.response_topic)?;
        if let Some(data) = self.correlation_data {
            record.byte(44, 1);
            record.reference(48, place.bytes(7, data)?);
        }
        if let Some(seconds) = self.message_expiry_seconds {
            record.byte(56, 1);
            record.number(60, seconds.to_le_bytes());
        }
        record.reference(64, place.properties(9, self.user_properties)?);
        place.store(&record.0, offset)
    }
}
