"""The codec of simulated devices: it reads what it writes, in pieces of any size, and refuses junk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.wire import mqtt_packets as mqtt

_TOPICS = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=40)


def read(content: bytes) -> list[mqtt.Packet]:
    return list(mqtt.PacketReader().feed(content))


@given(st.lists(st.tuples(_TOPICS, st.binary(max_size=400), st.integers(0, 65_535)), max_size=6), st.data())
def test_what_is_written_is_read_whatever_the_pieces(
    messages: list[tuple[str, bytes, int]], data: st.DataObject
) -> None:
    stream = b"".join(mqtt.render_publish(*one) for one in messages)
    reader = mqtt.PacketReader()
    found: list[mqtt.Packet] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert [mqtt.parse_publish(one) for one in found] == [mqtt.Publish(*one) for one in messages]


@given(st.binary(max_size=600))
def test_junk_is_refused_in_one_way(content: bytes) -> None:
    try:
        packets = read(content)
    except InvalidInputError:
        return
    for packet in packets:
        for parse in (mqtt.parse_connack, mqtt.parse_publish, mqtt.parse_puback, mqtt.parse_suback):
            try:
                parse(packet)
            except InvalidInputError:
                continue


def test_a_connect_is_as_section_3_1_says() -> None:
    """Bytes checked by hand against the standard: protocol level 4, clean session, keep alive 120 s."""
    assert mqtt.render_connect("cam", keepalive_s=120) == b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x78\x00\x03cam"
    assert mqtt.render_connect("cam", keepalive_s=120, is_clean=False)[9] == 0


def test_a_repeat_is_marked_and_qos_0_carries_no_number() -> None:
    assert mqtt.render_publish("a", b"x", 7) == b"\x32\x06\x00\x01a\x00\x07x"
    assert mqtt.render_publish("a", b"x", 7, is_repeat=True)[0] == 0x3A
    assert mqtt.render_publish("a", b"x", 0, is_repeat=True) == b"\x30\x04\x00\x01ax"


def test_a_subscription_names_each_filter_at_qos_0() -> None:
    assert mqtt.render_subscribe(["a/+", "b"], 3) == b"\x82\x0c\x00\x03\x00\x03a/+\x00\x00\x01b\x00"


@pytest.mark.parametrize("length", [127, 128, 16_383, 16_384, mqtt.MAX_PACKET_BYTES - 3])
def test_lengths_at_the_edges_of_their_digits_are_read(length: int) -> None:
    [packet] = read(mqtt.render_publish("a", bytes(length - 3), 0))
    assert len(packet.unverified_body) == length


def test_a_packet_over_the_limit_is_refused_before_it_has_come() -> None:
    over = mqtt.render_publish("a", bytes(mqtt.MAX_PACKET_BYTES - 2), 0)
    with pytest.raises(InvalidInputError, match="at most"):
        read(over[:6])


def test_a_length_of_five_bytes_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="four bytes"):
        read(b"\x30\xff\xff\xff\xff\x01")


def test_an_unfinished_packet_waits() -> None:
    reader = mqtt.PacketReader()
    whole = mqtt.render_puback(9)
    assert list(reader.feed(whole[:1])) == []
    assert list(reader.feed(whole[1:3])) == []
    assert [mqtt.parse_puback(one) for one in reader.feed(whole[3:])] == [9]


@pytest.mark.parametrize(
    "body", [b"", b"\x00", b"\x00\x05ab", b"\x00\x01a\x00", b"\x00\x01\xff\x00\x07"], ids=repr
)
def test_a_publish_that_lies_about_itself_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        mqtt.parse_publish(mqtt.Packet(mqtt.PUBLISH, 0x02, body))


def test_qos_2_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="QoS 2"):
        mqtt.parse_publish(mqtt.Packet(mqtt.PUBLISH, 0x04, b"\x00\x01a\x00\x07x"))


def test_codes_of_answers_are_read() -> None:
    assert mqtt.parse_connack(mqtt.Packet(mqtt.CONNACK, 0, b"\x00\x05")) == 5
    assert mqtt.parse_suback(mqtt.Packet(mqtt.SUBACK, 0, b"\x00\x01\x00\x80")) == b"\x00\x80"
