//! MQTT 5.0 properties (section 2.2.2.2), all of them in one sparse record.

use crate::{QoS, Utf8String};
use bytes::Bytes;

/// A User Property: name and value.
pub type UserProperty = (Utf8String, Utf8String);

/// The properties of one packet or will. Which of them a packet type may carry is checked by the decoder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the specification's, one for one.
pub struct Properties {
    pub payload_format_indicator: Option<bool>,
    /// Seconds.
    pub message_expiry_interval: Option<u32>,
    pub content_type: Option<Utf8String>,
    pub response_topic: Option<Utf8String>,
    pub correlation_data: Option<Bytes>,
    /// At most one in a SUBSCRIBE, several in a PUBLISH from the server.
    pub subscription_identifiers: Vec<u32>,
    /// Seconds.
    pub session_expiry_interval: Option<u32>,
    pub assigned_client_identifier: Option<Utf8String>,
    /// Seconds.
    pub server_keep_alive: Option<u16>,
    pub authentication_method: Option<Utf8String>,
    pub authentication_data: Option<Bytes>,
    pub request_problem_information: Option<bool>,
    /// Seconds.
    pub will_delay_interval: Option<u32>,
    pub request_response_information: Option<bool>,
    pub response_information: Option<Utf8String>,
    pub server_reference: Option<Utf8String>,
    pub reason_string: Option<Utf8String>,
    pub receive_maximum: Option<u16>,
    pub topic_alias_maximum: Option<u16>,
    pub topic_alias: Option<u16>,
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    pub user_properties: Vec<UserProperty>,
    /// Bytes.
    pub maximum_packet_size: Option<u32>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_identifier_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
}
