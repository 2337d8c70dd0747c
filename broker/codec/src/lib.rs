//! MQTT 3.1, 3.1.1 and 5.0 on the wire: one representation for all three versions. Pure: no socket, clock or file.
//!
//! [`decode`] takes packets off the front of a byte buffer without copying topics or payloads; [`encode`] writes a packet for
//! the receiver's version. Topic names and filters are validated here and nowhere else.

mod decode;
mod encode;
mod error;
mod packet;
mod properties;
mod property_id;
mod reason;
pub mod topic;
mod utf8;

pub use decode::{PacketRef, PublishRef, TopicAhead, decode, decode_in_place, frame_len, topics_ahead};
pub use encode::{PublishHeader, encode, encode_publish_header, encoded_publish_len};
pub use error::{DecodeError, EncodeError};
pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, PacketType, Publish, QoS, RetainHandling, SubAck,
    Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Version, Will,
};
pub use properties::{Properties, UserProperty};
pub use property_id::{PropertyId, PropertyOwner};
pub use reason::ReasonCode;
pub use utf8::{MAX_STRING_BYTES, StringError, Utf8Ref, Utf8String};
