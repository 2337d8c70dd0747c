"""paho-mqtt in the world `home`: a device of each vendor and somebody who commands both. Usage: paho_home.py PORT VERSION."""

import queue
import sys
import threading

import paho.mqtt.client as mqtt

DEADLINE = 10
PORT, VERSION = int(sys.argv[1]), int(sys.argv[2])


class Client:
    """A client whose messages queue up as pairs of topic and payload."""

    def __init__(self, name, user, topic):
        self.messages, ready = queue.Queue(), threading.Event()
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=VERSION)
        self.mqtt.username_pw_set(user, f"the password of {user}")
        self.mqtt.on_connect = lambda *_: self.mqtt.subscribe(topic, 1)
        self.mqtt.on_subscribe = lambda *_: ready.set()
        self.mqtt.on_message = lambda _c, _u, message: self.messages.put((message.topic, message.payload.decode()))
        self.mqtt.connect("localhost", PORT)
        self.mqtt.loop_start()
        assert ready.wait(DEADLINE), name

    def publish(self, topic, payload):
        self.mqtt.publish(topic, payload, 1).wait_for_publish(DEADLINE)

    def expect(self, topic, payload):
        seen = self.messages.get(timeout=DEADLINE)
        assert seen == (topic, payload), seen


zigbee = Client("z2m", "zigbee2mqtt", "zigbee2mqtt/+/set")
lamp = Client("tasmota_8F3A21", "tasmota", "cmnd/tasmota_8F3A21/#")
ann = Client("phone", "ann", "home/#")

zigbee.publish("zigbee2mqtt/hall/door", '{"contact":false,"battery":97}')
ann.expect("home/hall/door/open", "true")
ann.expect("home/hall/door/battery", "97")
lamp.publish("tele/tasmota_8F3A21/STATE", '{"Time":"2024-05-17T08:15:00","POWER":"OFF","Dimmer":40}')
ann.expect("home/living-room/light/switch", "false")
ann.expect("home/living-room/light/brightness", "40")
ann.publish("home/living-room/light/switch/set", "on")
lamp.expect("cmnd/tasmota_8F3A21/POWER", "ON")
ann.publish("home/kitchen/plug/switch/set", "true")
zigbee.expect("zigbee2mqtt/0x00158d0001a2b3c4/set", '{"state":"ON"}')
assert ann.messages.empty()
print("ok")
