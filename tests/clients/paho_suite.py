"""paho-mqtt against the broker: QoS 0 to 2, retained messages, wills, wildcards, shared subscriptions, large payloads and,
under 5.0, properties. Usage: paho_suite.py PORT VERSION [websockets] [CA_FILE], VERSION 4 (3.1.1) or 5 (5.0), CA_FILE for TLS."""

import queue
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

DEADLINE = 10
PORT, VERSION = int(sys.argv[1]), int(sys.argv[2])
IS_WEB = "websockets" in sys.argv[3:]
CA_FILE = next((file for file in sys.argv[3:] if file != "websockets"), None)
IS_5 = VERSION == 5


class Client:
    """A client whose calls wait for their acknowledgements, and whose messages queue up."""

    def __init__(self, name, clean=True, will=None):
        arguments = {} if IS_5 else {"clean_session": clean}
        arguments["transport"] = "websockets" if IS_WEB else "tcp"
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=VERSION, **arguments)
        self.messages, self.subscribed = queue.Queue(), queue.Queue()
        self.connected, self.ended = queue.Queue(), threading.Event()
        self.mqtt.on_connect = lambda _c, _u, flags, reason, _p: self.connected.put((flags.session_present, reason))
        self.mqtt.on_message = lambda _c, _u, message: self.messages.put(message)
        self.mqtt.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.subscribed.put(reasons)
        self.mqtt.on_unsubscribe = lambda _c, _u, _mid, _reasons, _p: self.subscribed.put([])
        self.mqtt.on_disconnect = lambda *_: self.ended.set()
        if CA_FILE:
            self.mqtt.tls_set(CA_FILE)
        if IS_WEB:
            # It would call itself a page of the broker's own address.
            self.mqtt.ws_set_options("/mqtt", lambda headers: {k: v for k, v in headers.items() if k != "Origin"})
        if will:
            self.mqtt.will_set(**will)
        options = {}
        if IS_5:
            options["clean_start"] = clean
            if not clean:
                options["properties"] = Properties(PacketTypes.CONNECT)
                options["properties"].SessionExpiryInterval = 3600
        self.mqtt.connect("localhost", PORT, 60, **options)
        self.mqtt.loop_start()
        self.session_present, reason = self.connected.get(timeout=DEADLINE)
        assert not reason.is_failure, reason

    def subscribe(self, topic, qos, **options):
        self.mqtt.subscribe(topic, **(options or {"qos": qos}))
        reasons = self.subscribed.get(timeout=DEADLINE)
        assert [reason.value for reason in reasons] == [qos], reasons

    def unsubscribe(self, topic):
        self.mqtt.unsubscribe(topic)
        self.subscribed.get(timeout=DEADLINE)

    def publish(self, topic, payload, qos, retain=False, properties=None):
        info = self.mqtt.publish(topic, payload, qos, retain, properties)
        info.wait_for_publish(DEADLINE)
        assert info.is_published()

    def expect(self, topic, payload, qos):
        message = self.messages.get(timeout=DEADLINE)
        assert (message.topic, message.payload, message.qos) == (topic, payload, qos), (message.topic, message.qos)
        return message

    def close(self):
        self.mqtt.disconnect()
        assert self.ended.wait(DEADLINE)
        self.mqtt.loop_stop()

    def cut(self):
        """Ends the connection without DISCONNECT, and does not come back."""
        self.mqtt.loop_stop()
        self.mqtt._sock_close()


def every_qos_and_size():
    subscriber, publisher = Client("s"), Client("p")
    subscriber.subscribe("a/+/c", 2)
    for qos in (0, 1, 2):
        for size in (0, 1, 1000, 200_000):
            publisher.publish("a/b/c", b"x" * size, qos)
            subscriber.expect("a/b/c", b"x" * size, qos)
    subscriber.unsubscribe("a/+/c")
    subscriber.subscribe("end", 1)
    publisher.publish("a/b/c", b"unseen", 1)
    publisher.publish("end", b"", 1)
    subscriber.expect("end", b"", 1)
    subscriber.close()
    publisher.close()


def order_of_many():
    subscriber, publisher = Client("s"), Client("p")
    for qos in (0, 1, 2):
        topic = f"many/{qos}"
        subscriber.subscribe(topic, qos)
        for number in range(500):
            publisher.mqtt.publish(topic, str(number), qos)
        for number in range(500):
            subscriber.expect(topic, str(number).encode(), qos)
    subscriber.close()
    publisher.close()


def retained():
    publisher = Client("p")
    publisher.publish("kept/1", b"old", 1, retain=True)
    publisher.publish("kept/1", b"new", 2, retain=True)
    subscriber = Client("s")
    subscriber.subscribe("kept/#", 1)
    assert subscriber.expect("kept/1", b"new", 1).retain
    publisher.publish("kept/1", b"", 1, retain=True)
    subscriber.expect("kept/1", b"", 1)
    late = Client("late")
    late.subscribe("kept/#", 1)
    publisher.publish("kept/2", b"live", 1)
    assert not late.expect("kept/2", b"live", 1).retain
    for client in (publisher, subscriber, late):
        client.close()


def wills():
    watcher = Client("watcher")
    watcher.subscribe("will/#", 1)
    will = {"topic": "will/x", "payload": b"gone", "qos": 1}
    Client("polite", will=will).close()
    Client("cut", will={**will, "topic": "will/cut"}).cut()
    watcher.expect("will/cut", b"gone", 1)
    watcher.close()


def durable_session():
    client = Client("durable", clean=False)
    assert not client.session_present
    client.subscribe("waiting/#", 2)
    client.close()
    publisher = Client("p")
    # paho hands out QoS 2 messages at PUBREL, so that a QoS 1 message overtakes them there.
    qos_of = [1] * 25 + [2] * 25
    for number, qos in enumerate(qos_of):
        publisher.publish("waiting/x", str(number), qos)
    client = Client("durable", clean=False)
    assert client.session_present
    for number, qos in enumerate(qos_of):
        client.expect("waiting/x", str(number).encode(), qos)
    client.close()
    publisher.close()
    Client("durable").close()


def shared_subscription():
    members, publisher = [Client(f"member-{number}") for number in range(3)], Client("p")
    for member in members:
        member.subscribe("$share/group/work/#", 1)
    for number in range(30):
        publisher.publish("work/x", str(number), 1)
    seen = sorted(int(member.messages.get(timeout=DEADLINE).payload) for member in members for _ in range(10))
    assert seen == list(range(30)), seen
    for client in (*members, publisher):
        client.close()


def properties():
    subscriber, publisher = Client("s"), Client("p")
    identifier = Properties(PacketTypes.SUBSCRIBE)
    identifier.SubscriptionIdentifier = 7
    subscriber.subscribe("props", 1, options=SubscribeOptions(qos=1, noLocal=True), properties=identifier)
    subscriber.publish("props", b"own", 1)
    sent = Properties(PacketTypes.PUBLISH)
    sent.UserProperty = [("a", "1"), ("b", "2"), ("a", "3")]
    sent.ContentType, sent.ResponseTopic, sent.CorrelationData = "text/plain", "answers", b"\x00\xff"
    sent.MessageExpiryInterval, sent.PayloadFormatIndicator = 100, 1
    publisher.publish("props", b"x", 1, properties=sent)
    seen = subscriber.expect("props", b"x", 1).properties
    assert seen.UserProperty == sent.UserProperty, seen
    assert (seen.ContentType, seen.ResponseTopic, seen.CorrelationData) == ("text/plain", "answers", b"\x00\xff"), seen
    assert 0 < seen.MessageExpiryInterval <= 100 and seen.PayloadFormatIndicator == 1, seen
    assert seen.SubscriptionIdentifier == [7], seen
    subscriber.close()
    publisher.close()


SUITE = [every_qos_and_size, order_of_many, retained, wills, durable_session, shared_subscription]
for behaviour in SUITE + ([properties] if IS_5 else []):
    behaviour()
    print("ok", behaviour.__name__, flush=True)
