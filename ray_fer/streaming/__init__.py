"""Kafka side of the live system: messages, windows, the transactional worker. Imports no Ray."""
