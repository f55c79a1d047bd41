"""The exact promises of perdure.v1: the methods of RunnerService, the reasons, and the imports of the protos."""

from typing import Final

import pytest
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor

from perdure.v1 import (
    common_pb2,
    errors_pb2,
    history_pb2,
    instance_service_pb2,
    runner_service_pb2,
    server_service_pb2,
    timer_service_pb2,
    workflow_service_pb2,
)

FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        common_pb2,
        errors_pb2,
        history_pb2,
        instance_service_pb2,
        runner_service_pb2,
        server_service_pb2,
        timer_service_pb2,
        workflow_service_pb2,
    )
]

STRING, BOOL, INT64, UINT32 = "string", "bool", "int64", "uint32"
TYPE_NAMES = {
    FieldDescriptor.TYPE_STRING: STRING,
    FieldDescriptor.TYPE_BOOL: BOOL,
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_UINT32: UINT32,
}

RUNNER_MESSAGES = {
    "StartInstanceRequest": {"workflow": (1, STRING), "context": (2, "Payload"), "opts": (3, "StartOptions")},
    "StartOptions": {
        "request_id": (1, STRING),
        "instance_id": (2, STRING),
        "version": (3, UINT32),
        "business_key": (4, STRING),
        "conflict_policy": (5, "ConflictPolicy"),
        "start_delay_ms": (6, INT64),
        "labels": (7, "LabelsEntry"),
    },
    "StartInstanceResponse": {
        "instance_id": (1, STRING),
        "created": (2, BOOL),
        "version": (3, UINT32),
        "revision": (4, INT64),
    },
    "ResumeRequest": {"instance_id": (1, STRING), "event": (2, STRING), "opts": (3, "ResumeOptions")},
    "ResumeOptions": {
        "request_id": (1, STRING),
        "payload": (2, "Payload"),
        "step_ref": (3, STRING),
        "buffer": (4, BOOL),
    },
    "ResumeResponse": {"disposition": (1, "Disposition"), "step_ref": (2, STRING), "revision": (3, INT64)},
    "ScheduleResumeRequest": {
        "instance_id": (1, STRING),
        "step_ref": (2, STRING),
        "delay_ms": (3, INT64),
        "opts": (4, "ScheduleOptions"),
    },
    "ScheduleOptions": {"request_id": (1, STRING)},
    "ScheduleResumeResponse": {
        "reference": (1, STRING),
        "due_time": (2, "Timestamp"),
        "revision": (3, INT64),
    },
}

REASONS = """
    INVALID_FIELD REQUEST_ID_REUSED WORKFLOW_INVALID
    INSTANCE_NOT_FOUND WORKFLOW_NOT_FOUND STEP_NOT_FOUND TIMER_NOT_FOUND
    INSTANCE_ALREADY_EXISTS BUSINESS_KEY_IN_USE
    INSTANCE_ENDED INSTANCE_NOT_FAILED EVENT_NOT_AWAITED EVENT_NEVER_ACCEPTED AMBIGUOUS_EVENT STEP_FINISHED
    STEP_UNREACHABLE STEP_HAS_NO_TIMEOUT TIMER_NOT_CANCELLABLE LEASE_LOST
    REVISION_COMPACTED REVISION_IN_FUTURE
    OVERLOADED PAYLOAD_TOO_LARGE INBOX_FULL TOO_MANY_TIMERS
    DATABASE_UNAVAILABLE COMMIT_UNKNOWN SHUTTING_DOWN
    BACKUP_NOT_CONFIGURED BACKUP_ALREADY_EXISTS BACKUP_FAILED
""".split()


def type_name(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return field.message_type.name
    return field.enum_type.name if field.enum_type is not None else TYPE_NAMES[field.type]


def methods() -> list[MethodDescriptor]:
    return [m for file in FILES for service in file.services_by_name.values() for m in service.methods]


def test_runner_service_has_exactly_three_methods() -> None:
    service = runner_service_pb2.DESCRIPTOR.services_by_name["RunnerService"]

    assert [method.name for method in service.methods] == ["StartInstance", "Resume", "ScheduleResume"]


@pytest.mark.parametrize("message", RUNNER_MESSAGES)
def test_messages_of_runner_service_keep_their_fields(message: str) -> None:
    fields = runner_service_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name

    # Fields can be added. These never change.
    promised = RUNNER_MESSAGES[message]
    assert {name: (fields[name].number, type_name(fields[name])) for name in promised} == promised


def test_a_payload_is_json_text() -> None:
    payload = common_pb2.Payload.DESCRIPTOR

    (json,) = payload.oneofs_by_name["body"].fields
    assert (json.name, json.number, type_name(json)) == ("json", 1, STRING)


def test_every_reason_is_published_in_order() -> None:
    names = [value.name for value in errors_pb2.ErrorReason.DESCRIPTOR.values]

    assert names == [f"ERROR_REASON_{reason}" for reason in ("UNSPECIFIED", *REASONS)]


def test_protos_import_only_files_of_every_protobuf_runtime() -> None:
    imported = {dependency.name for file in FILES for dependency in file.dependencies}

    assert {name for name in imported if not name.startswith(("google/protobuf/", "perdure/v1/"))} == set()


def test_every_file_has_the_options_of_every_language() -> None:
    for file in FILES:
        options = file.GetOptions()
        assert options.go_package
        assert options.java_package
        assert options.java_multiple_files
        assert options.java_outer_classname
        assert options.csharp_namespace
        assert options.php_namespace
        assert options.ruby_package


NO_INSTANCE: Final = ("Get", "List", "Watch", "Backup")
"""Name prefixes of methods that do not change the database."""


@pytest.mark.parametrize("method", [m for m in methods() if not m.name.startswith(NO_INSTANCE)])
def test_every_mutating_request_has_a_request_id_in_its_opts(method: MethodDescriptor) -> None:
    opts = method.input_type.fields_by_name["opts"].message_type

    assert opts.fields_by_name["request_id"].number == 1


@pytest.mark.parametrize("method", [m for m in methods() if m.name.startswith("List")])
def test_every_list_is_paged(method: MethodDescriptor) -> None:
    assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name)
    assert "next_page_token" in method.output_type.fields_by_name


def test_the_history_has_a_field_for_each_fact_of_the_engine() -> None:
    facts = pytest.importorskip("perdure_server.engine.facts")

    published = [field.name for field in history_pb2.HistoryEntry.DESCRIPTOR.oneofs_by_name["fact"].fields]

    assert published == list(facts.KIND_OF.values())
