use super::Property;

/// Quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// QoS 0.
    #[default]
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
    /// QoS 2.
    ExactlyOnce,
}

impl Qos {
    /// The level written as a number, 0 to 2.
    pub fn from_level(level: u8) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce]
            .get(usize::from(level))
            .copied()
    }
}

/// An application message.
///
/// ```
/// use nervewire_plugin_sdk::{Message, Qos};
/// let alert = Message::new("alerts/door", "open").text().qos(Qos::AtLeastOnce).user_property("source", "doorman");
/// assert_eq!(alert.payload_str(), Some("open"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// Application payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: Qos,
    /// To be retained.
    pub retain: bool,
    /// The payload is declared to be UTF-8 text (Payload Format Indicator 1).
    pub payload_is_utf8: bool,
    /// Content Type, in most cases a MIME type.
    pub content_type: Option<String>,
    /// Response Topic of a request.
    pub response_topic: Option<String>,
    /// Correlation Data of a request.
    pub correlation_data: Option<Vec<u8>>,
    /// Message Expiry Interval in seconds; `None`: never.
    pub message_expiry_seconds: Option<u32>,
    /// User Properties, in order.
    pub user_properties: Vec<Property>,
}

impl Message {
    /// A message of QoS 0 that is not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// With this quality of service.
    pub fn qos(mut self, qos: Qos) -> Self {
        self.qos = qos;
        self
    }

    /// To be retained.
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Its payload declared to be UTF-8 text.
    pub fn text(mut self) -> Self {
        self.payload_is_utf8 = true;
        self
    }

    /// With this Content Type.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Forgotten when it was not delivered for so many seconds.
    pub fn expires_after_seconds(mut self, seconds: u32) -> Self {
        self.message_expiry_seconds = Some(seconds);
        self
    }

    /// With one more User Property.
    pub fn user_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_properties.push(Property::new(name, value));
        self
    }

    /// The payload, where it is UTF-8, whether declared so or not.
    pub fn payload_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.payload).ok()
    }
}
