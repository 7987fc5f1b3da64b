"""What development and the demo need: JVM jars, a Kafka broker, real data. No pipeline imports it."""
