//! What stands between TCP or TLS and MQTT: WebSocket and the PROXY protocol. Bytes in, bytes out: nothing here knows a socket, so
//! that fuzzing feeds it what no socket would.

pub(crate) mod frames;
pub(crate) mod network;
pub(crate) mod proxy;
pub(crate) mod upgrade;
pub(crate) mod websocket;
