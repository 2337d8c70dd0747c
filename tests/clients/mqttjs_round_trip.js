// MQTT.js against the broker: one round trip at each QoS. Usage: mqttjs_round_trip.js URL VERSION [CA_FILE]
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [url, version, caFile] = process.argv.slice(2);
const client = await mqtt.connectAsync(url, {
  protocolVersion: Number(version),
  clientId: "mqttjs",
  connectTimeout: 10_000,
  reconnectPeriod: 0,
  ...(caFile && { ca: readFileSync(caFile) }),
});
const deadline = setTimeout(() => {
  console.error("no answer in time");
  process.exit(1);
}, 10_000);
await client.subscribeAsync("round/+", { qos: 2 });
for (const qos of [0, 1, 2]) {
  const arrived = new Promise((resolve) => client.once("message", (topic, payload, packet) => resolve({ topic, payload, packet })));
  await client.publishAsync("round/trip", `at ${qos}`, { qos });
  const { topic, payload, packet } = await arrived;
  if (topic !== "round/trip" || payload.toString() !== `at ${qos}` || packet.qos !== qos) {
    throw new Error(`got ${topic} ${payload} at QoS ${packet.qos}`);
  }
}
clearTimeout(deadline);
await client.endAsync();
