//! The records of a call, each written into the guest's memory in one piece. Derived code stores field by field and looks the guest's
//! memory up for each of them, thirty times per call: a sixth of its time.
//!
//! The layout is the canonical ABI's for 32-bit memories, the only ones that the engine has: fields in their order, each aligned to its
//! size, texts and lists as address and length, options with a byte before them. That the sizes agree is checked when this is
//! compiled; that every field arrives, by the tests with guests. What it builds on is what wasmtime's derived code builds on and may
//! change with any release of it: then `derive(Lower)` in `wire.rs` is the way back.

#![allow(unsafe_code)] // To implement `Lower` is to promise what its documentation asks for, as the derived code does.

use crate::wire::{CertificateRef, ClientRef, MessageRef, RequestRef};
use std::mem::MaybeUninit;
use wasmtime::component::__internal::{InterfaceType, LowerContext};
use wasmtime::component::{ComponentType, Lower};
use wasmtime::{Result, ValRaw, bail};

/// A record that is being put together.
struct Record<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Record<BYTES> {
    fn new() -> Self {
        Self([0; BYTES])
    }

    fn byte(&mut self, at: usize, value: u8) {
        self.0[at] = value;
    }

    fn number<const WIDTH: usize>(&mut self, at: usize, value: [u8; WIDTH]) {
        self.0[at..at + WIDTH].copy_from_slice(&value);
    }

    /// A text or list: it is copied into an allocation of the guest's own.
    fn list<T, L>(&mut self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, at: usize, list: &L) -> Result<()>
    where
        L: Lower + ComponentType<Lower = [ValRaw; 2]> + ?Sized,
    {
        let mut flat = MaybeUninit::new([ValRaw::i64(0); 2]);
        list.linear_lower_to_flat(cx, ty, &mut flat)?;
        // SAFETY: it was initialized two lines above.
        let [address, length] = unsafe { flat.assume_init() };
        self.number(at, address.get_u32().to_le_bytes());
        self.number(at + 4, length.get_u32().to_le_bytes());
        Ok(())
    }

    fn text<T>(&mut self, cx: &mut LowerContext<'_, T>, at: usize, text: &str) -> Result<()> {
        self.list(cx, InterfaceType::String, at, text)
    }

    fn optional_text<T>(&mut self, cx: &mut LowerContext<'_, T>, at: usize, text: Option<&str>) -> Result<()> {
        let Some(text) = text else { return Ok(()) };
        self.byte(at, 1);
        self.text(cx, at + 4, text)
    }

    fn store<T>(&self, cx: &mut LowerContext<'_, T>, offset: usize) -> Result<()> {
        let place = cx.as_slice_mut().get_mut(offset..).and_then(<[u8]>::first_chunk_mut);
        let Some(place) = place else {
            bail!("a record beyond the guest's memory")
        };
        *place = self.0;
        Ok(())
    }
}

/// The type that the guest has for a field of a record.
fn field<T>(cx: &LowerContext<'_, T>, record: InterfaceType, position: usize) -> Result<InterfaceType> {
    let fields = match record {
        InterfaceType::Record(record) => &cx.types[record].fields,
        _ => bail!("not a record"),
    };
    match fields.get(position) {
        Some(field) => Ok(field.ty),
        None => bail!("no such field"),
    }
}

/// A parameter of a call has more fields than are passed outside of memory.
fn never_flat() -> Result<()> {
    bail!("a record that is passed in memory")
}

const CLIENT_BYTES: usize = 152;
const CERTIFICATE: usize = 48;
const _: () = assert!(<ClientRef<'_> as ComponentType>::SIZE32 == CLIENT_BYTES);

// SAFETY: what is written is within the record's place, which is checked.
unsafe impl Lower for ClientRef<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        never_flat()
    }

    fn linear_lower_to_memory<T>(&self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, offset: usize) -> Result<()> {
        let mut record = Record::<CLIENT_BYTES>::new();
        record.text(cx, 0, self.client_id)?;
        record.optional_text(cx, 8, self.username)?;
        record.text(cx, 20, self.address)?;
        record.number(28, self.port.to_le_bytes());
        record.text(cx, 32, self.listener)?;
        record.byte(40, self.protocol as u8);
        record.byte(CERTIFICATE, u8::from(self.certificate.is_some()));
        let attributes = field(cx, ty, 7)?;
        record.list(cx, attributes, 128, self.attributes)?;
        record.optional_text(cx, 136, self.tenant)?;
        record.store(cx, offset)?;
        match &self.certificate {
            Some(certificate) => store_certificate(cx, ty, offset + CERTIFICATE + 8, certificate),
            None => Ok(()),
        }
    }
}

/// As it is derived: few clients have one.
fn store_certificate<T>(
    cx: &mut LowerContext<'_, T>,
    client: InterfaceType,
    offset: usize,
    certificate: &CertificateRef<'_>,
) -> Result<()> {
    let InterfaceType::Option(option) = field(cx, client, 6)? else {
        bail!("not an option")
    };
    let ty = cx.types[option].ty;
    certificate.linear_lower_to_memory(cx, ty, offset)
}

const REQUEST_BYTES: usize = 16;
const _: () = assert!(<RequestRef<'_> as ComponentType>::SIZE32 == REQUEST_BYTES);

// SAFETY: as above.
unsafe impl Lower for RequestRef<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        never_flat()
    }

    fn linear_lower_to_memory<T>(&self, cx: &mut LowerContext<'_, T>, _: InterfaceType, offset: usize) -> Result<()> {
        let mut record = Record::<REQUEST_BYTES>::new();
        record.byte(0, self.action as u8);
        record.text(cx, 4, self.topic)?;
        record.byte(12, self.qos as u8);
        record.byte(13, u8::from(self.retain));
        record.store(cx, offset)
    }
}

const MESSAGE_BYTES: usize = 72;
const _: () = assert!(<MessageRef<'_> as ComponentType>::SIZE32 == MESSAGE_BYTES);

// SAFETY: as above.
unsafe impl Lower for MessageRef<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        never_flat()
    }

    fn linear_lower_to_memory<T>(&self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, offset: usize) -> Result<()> {
        let mut record = Record::<MESSAGE_BYTES>::new();
        let payload = field(cx, ty, 1)?;
        record.text(cx, 0, self.topic)?;
        record.list(cx, payload, 8, self.payload)?;
        record.byte(16, self.qos as u8);
        record.byte(17, u8::from(self.retain));
        record.byte(18, u8::from(self.payload_is_utf8));
        record.optional_text(cx, 20, self.content_type)?;
        record.optional_text(cx, 32, self.response_topic)?;
        if let Some(data) = self.correlation_data {
            record.byte(44, 1);
            record.list(cx, payload, 48, data)?;
        }
        if let Some(seconds) = self.message_expiry_seconds {
            record.byte(56, 1);
            record.number(60, seconds.to_le_bytes());
        }
        let properties = field(cx, ty, 9)?;
        record.list(cx, properties, 64, self.user_properties)?;
        record.store(cx, offset)
    }
}
