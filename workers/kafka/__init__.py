"""The Kafka edge: the only package that imports FastStream and aiokafka.

`edge` puts it together for one worker process. No type of either library leaves this package.
"""
