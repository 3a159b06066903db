"""What the process tests share: a node to start, stop and kill, and the Kafka protocol by hand."""
