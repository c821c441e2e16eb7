"""A client in another language than ours, through nothing but the published contract.

It starts a session, commits steps (one of them twice), kills the engine, replays, and tries to get in where it must not.
Promises: durable, replayable, fenced, private.
"""

import pathlib
import tempfile
import time
import unittest
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from engine import Engine, generate

GENERATED = tempfile.TemporaryDirectory(prefix="cellaflow-python-generated-")
PB = generate(GENERATED.name)
common, event, engine_pb = PB["common_pb2"], PB["event_pb2"], PB["engine_pb2"]
session_pb, operator = PB["session_pb2"], PB["operator_pb2"]

# Larger than what is stored beside an event (8 KiB) and than one message piece (64 KiB).
LARGE_BYTES = 300 * 1024

# For every call, in seconds.
TIMEOUT_S = 10

ENGINE = None


def setUpModule():
    global ENGINE
    ENGINE = Engine()


def tearDownModule():
    ENGINE.close()
    GENERATED.cleanup()


def json_payload(text):
    return common.Payload(format=common.PAYLOAD_FORMAT_JSON, data=text.encode())


class Client:
    """What a thin client does: one call after the other under one lease."""

    def __init__(self, channel):
        self.stub = PB["engine_pb2_grpc"].EngineServiceStub(channel)
        self.sessions = PB["session_pb2_grpc"].SessionServiceStub(channel)
        self.instance = str(uuid.uuid4())

    def start(self, key, lease=True, **fields):
        return self.stub.StartSession(engine_pb.StartSessionRequest(
            workflow="python", version="1", key=key, input=json_payload('{"n":1}'),
            instance=self.instance if lease else "", **fields), timeout=TIMEOUT_S)

    def commit(self, started, name, output, epoch=None):
        return self.stub.CommitStep(engine_pb.CommitStepRequest(
            session_id=started.session.session_id, epoch=started.epoch if epoch is None else epoch,
            completed=event.StepCompleted(step_key=f"{name}#1", name=name, attempt=1, output=output),
        ), timeout=TIMEOUT_S)

    def replay(self, session_id, **fields):
        """Returns the replay's start, its events, and the pieces of large payloads put together again."""
        start, events, transfers, ended = None, [], {}, None
        request = engine_pb.ReplayRequest(session_id=session_id, instance=self.instance, **fields)
        for message in self.stub.ReplayRecovery(request, timeout=TIMEOUT_S):
            body = message.WhichOneof("body")
            if body == "start":
                start = message.start
            elif body == "piece":
                transfers[message.piece.transfer_id] = transfers.get(message.piece.transfer_id, b"") + message.piece.data
            elif body == "event":
                events.append(message.event)
            elif body == "end":
                ended = message.end.seq
        assert ended is not None, "a stream without its last message was cut off"
        return start, events, transfers, ended


def outputs(events, transfers):
    """The outputs of completed steps by name."""
    found = {}
    for one in events:
        if one.WhichOneof("body") == "step_completed":
            output = one.step_completed.output
            inline = output.WhichOneof("body") == "data"
            found[one.step_completed.name] = output.data if inline else transfers[output.transfer_id]
    return found


class Base(unittest.TestCase):
    def setUp(self):
        channel = ENGINE.channel()
        self.addCleanup(channel.close)
        self.client = Client(channel)

    def assertCode(self, code, call):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        return caught.exception.details()

    def reconnected(self):
        channel = ENGINE.channel()
        self.addCleanup(channel.close)
        return channel


class Contract(Base):
    """Everything that EngineService promises."""

    def test_durable_and_replayable_steps_come_back_byte_equal_after_kill_9(self):
        started = self.client.start("replayed")
        self.assertTrue(started.created)
        self.assertEqual(started.epoch, 1)
        large = common.Payload(format=common.PAYLOAD_FORMAT_BYTES, data=bytes(range(256)) * (LARGE_BYTES // 256))
        first = self.client.commit(started, "first", json_payload('{"a": 1}'))
        second = self.client.commit(started, "second", large)
        self.assertGreater(second.seq, first.seq)

        ENGINE.kill_and_restart()
        other = Client(self.reconnected())
        start, events, transfers, end = other.replay(started.session.session_id)
        self.assertEqual(start.session.session_id, started.session.session_id)
        self.assertEqual([one.seq for one in events], list(range(1, end + 1)), "seqs have no gaps")
        self.assertEqual(outputs(events, transfers), {"first": b'{"a": 1}', "second": large.data})
        self.assertEqual(events[0].WhichOneof("body"), "session_started")
        self.assertTrue(all(len(one.hash) == 32 for one in events))

    def test_replayable_a_commit_sent_twice_is_one_event(self):
        started = self.client.start("twice")
        first = self.client.commit(started, "only", json_payload("1"))
        again = self.client.commit(started, "only", json_payload("1"))
        self.assertFalse(first.duplicate)
        self.assertTrue(again.duplicate)
        self.assertEqual((again.seq, again.time_ms), (first.seq, first.time_ms))
        _, events, _, _ = self.client.replay(started.session.session_id)
        self.assertEqual([one.WhichOneof("body") for one in events].count("step_completed"), 1)
        # Another outcome for a completed step is not a repetition.
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.commit(started, "only", json_payload("2"))
        self.assertNotIn(caught.exception.code(), (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN))

    def test_replayable_a_key_names_one_session(self):
        started = self.client.start("same")
        again = self.client.start("same", lease=False)
        self.assertFalse(again.created)
        self.assertEqual(again.session.session_id, started.session.session_id)
        found = self.client.sessions.GetSession(session_pb.GetSessionRequest(session=session_pb.SessionRef(
            key=session_pb.SessionKey(workflow="python", key="same"))), timeout=TIMEOUT_S)
        self.assertEqual(found.session.session_id, started.session.session_id)
        with self.assertRaises(grpc.RpcError):
            self.client.stub.StartSession(engine_pb.StartSessionRequest(
                workflow="python", version="1", key="same", input=json_payload('{"n":2}')), timeout=TIMEOUT_S)

    def test_fenced_a_live_lease_is_not_taken_and_an_expired_one_is(self):
        started = self.client.start("fenced")
        self.client.commit(started, "first", json_payload("1"))
        other = Client(self.reconnected())
        with self.assertRaises(grpc.RpcError):
            other.replay(started.session.session_id, acquire_lease=True)
        deadline = time.monotonic() + 5 * ENGINE.lease_ttl_ms / 1000
        while True:
            try:
                start, events, transfers, _ = other.replay(started.session.session_id, acquire_lease=True)
                break
            except grpc.RpcError:
                self.assertLess(time.monotonic(), deadline, "the lease of a silent client never expires")
                time.sleep(0.1)
        self.assertEqual(start.epoch, started.epoch + 1)
        self.assertEqual(outputs(events, transfers), {"first": b"1"})
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.commit(started, "late", json_payload("2"))
        self.assertIn("fenced", str(caught.exception).lower() + str(caught.exception.trailing_metadata()).lower())
        self.assertFalse(other.commit(started, "late", json_payload("2"), epoch=start.epoch).duplicate)

    def test_the_contract_can_be_used_through_reflection_alone(self):
        channel = self.reconnected()
        database = ProtoReflectionDescriptorDatabase(channel)
        self.assertIn("cellaflow.v1.EngineService", database.get_services())
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("cellaflow.v1.EngineService").FindMethodByName("StartSession")
        request = message_factory.GetMessageClass(method.input_type)(workflow="python", version="1", key="reflected")
        request.input.format, request.input.data = common.PAYLOAD_FORMAT_JSON, b"{}"
        response_class = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary("/cellaflow.v1.EngineService/StartSession",
                                   request_serializer=lambda message: message.SerializeToString(),
                                   response_deserializer=response_class.FromString)
        self.assertTrue(call(request, timeout=TIMEOUT_S).created)


class Private(Base):
    """No request without TLS and a valid token is served; no token sees another namespace."""

    def list_with(self, channel):
        self.addCleanup(channel.close)
        sessions = PB["session_pb2_grpc"].SessionServiceStub(channel)
        return lambda **fields: sessions.ListSessions(session_pb.ListSessionsRequest(**fields), timeout=TIMEOUT_S)

    def token(self, namespace, role):
        admin = PB["operator_pb2_grpc"].OperatorServiceStub(self.reconnected())
        request = operator.CreateTokenRequest(name=f"{namespace}-{role}", role=role, namespace=namespace)
        return admin.CreateToken(request, timeout=TIMEOUT_S).secret

    def test_no_token_and_a_wrong_token_are_refused(self):
        for token in ("", "cf_" + "A" * 43, ENGINE.connection()["token"] + "x"):
            self.assertCode(grpc.StatusCode.UNAUTHENTICATED, self.list_with(ENGINE.channel(token)))

    def test_health_needs_no_token(self):
        channel = ENGINE.channel("")
        self.addCleanup(channel.close)
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        self.assertEqual(check(b"", timeout=TIMEOUT_S), b"\x08\x01", "SERVING")

    def test_plaintext_is_refused_at_once_and_says_why(self):
        channel = grpc.insecure_channel(ENGINE.address)
        began = time.monotonic()
        with self.assertRaises(grpc.RpcError) as caught:
            self.list_with(channel)()
        self.assertLess(time.monotonic() - began, 5)
        self.assertIn("https://", caught.exception.details())

    def test_a_certificate_of_another_authority_is_not_trusted(self):
        channel = grpc.secure_channel(ENGINE.address, grpc.ssl_channel_credentials())
        self.assertCode(grpc.StatusCode.UNAVAILABLE, self.list_with(channel))

    def test_a_token_sees_its_own_namespace_only(self):
        red = Client(self.channel_with(self.token("red", event.ROLE_CLIENT)))
        blue_channel = self.channel_with(self.token("blue", event.ROLE_CLIENT))
        blue = Client(blue_channel)
        started = red.start("private")
        self.assertEqual(started.session.namespace, "red")
        self.assertEqual([], list(self.list_with(blue_channel)().sessions))
        self.assertCode(grpc.StatusCode.PERMISSION_DENIED, lambda: self.list_with(blue_channel)(namespace="red"))
        # To a stranger a session that exists and one that does not look the same.
        unknown = str(uuid.uuid4())
        for call in (
            lambda session_id: blue.replay(session_id),
            lambda session_id: blue.sessions.GetSession(session_pb.GetSessionRequest(
                session=session_pb.SessionRef(session_id=session_id)), timeout=TIMEOUT_S),
            lambda session_id: list(blue.sessions.SubscribeSession(session_pb.SubscribeSessionRequest(
                session=session_pb.SessionRef(session_id=session_id), until_caught_up=True), timeout=TIMEOUT_S)),
        ):
            codes = set()
            for session_id in (started.session.session_id, unknown):
                with self.assertRaises(grpc.RpcError) as caught:
                    call(session_id)
                codes.add(caught.exception.code())
            self.assertEqual(codes, {grpc.StatusCode.NOT_FOUND})
        with self.assertRaises(grpc.RpcError):
            blue.commit(started, "foreign", json_payload("1"))
        # The same key in another namespace is another session.
        self.assertTrue(blue.start("private").created)

    def test_a_viewer_cannot_start_sessions(self):
        viewer = Client(self.channel_with(self.token("red", event.ROLE_VIEWER)))
        self.assertCode(grpc.StatusCode.PERMISSION_DENIED, lambda: viewer.start("by-viewer"))

    def channel_with(self, secret):
        channel = ENGINE.channel(secret)
        self.addCleanup(channel.close)
        return channel


if __name__ == "__main__":
    unittest.main(verbosity=2)
