/**
 * Conversion of the API's messages to the values of `types.ts` and `facts.ts`. No I/O. Fields that this version does not
 * know are dropped. Unknown enum values and facts become "UNKNOWN" and "unknown".
 */

import type { DescEnum } from "@bufbuild/protobuf";
import { durationMs, timestampDate, type Duration, type Timestamp } from "@bufbuild/protobuf/wkt";

import * as facts from "./facts.js";
import * as common from "./gen/perdure/v1/common_pb.js";
import type { HistoryEntry as EntryMessage } from "./gen/perdure/v1/history_pb.js";
import * as instances from "./gen/perdure/v1/instance_service_pb.js";
import type { Timer as TimerMessage } from "./gen/perdure/v1/timer_service_pb.js";
import * as workflows from "./gen/perdure/v1/workflow_service_pb.js";
import { parseJson, type JsonValue } from "./json.js";
import * as types from "./types.js";

/** Returns the short name of an enum value, "UNKNOWN" if it is not in `known`. */
export function nameOf<T extends string>(desc: DescEnum, number: number, known: readonly T[]): T | "UNKNOWN" {
  const name = desc.value[number]?.localName;
  return known.find((one) => one === name) ?? "UNKNOWN";
}

export function dateOf(time: Timestamp | undefined): Date | undefined {
  return time && timestampDate(time);
}

function msOf(duration: Duration | undefined): number | undefined {
  return duration && durationMs(duration);
}

// --- payloads ----------------------------------------------------------------------------------------------------

function textOf(payload: common.Payload | undefined): string {
  return payload?.body.case === "json" ? payload.body.value : "null";
}

function payloadInfoOf(info: common.PayloadInfo | undefined): facts.PayloadInfo | undefined {
  return info && { sizeBytes: Number(info.sizeBytes), digest: info.digest };
}

function bufferedOf({ event, stepRef, revision, payload }: common.BufferedEvent): facts.BufferedEvent {
  return { event, stepRef, revision: Number(revision), payload: payloadInfoOf(payload) };
}

function failureOf(failure: common.StepFailure | undefined): facts.StepFailure | undefined {
  return failure && { type: failure.type, message: failure.message, attempts: failure.attempts };
}

function mapped<V, R>(map: Readonly<Record<string, V>>, convert: (value: V) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, convert(value)]));
}

// --- instances ---------------------------------------------------------------------------------------------------

const stateOf = (state: instances.InstanceState) =>
  nameOf(instances.InstanceStateSchema, state, types.INSTANCE_STATES);
const stepStateOf = (state: instances.StepState) =>
  nameOf(instances.StepStateSchema, state, types.STEP_STATES);

export function instanceOf(message: instances.Instance): types.Instance {
  const inputJson = textOf(message.input);
  const outputsJson = mapped(message.outputs, textOf);
  return {
    instanceId: message.instanceId,
    workflow: message.workflow,
    version: message.version,
    state: stateOf(message.state),
    revision: Number(message.revision),
    input: parseJson(inputJson),
    inputJson,
    outputs: mapped<string, JsonValue>(outputsJson, parseJson),
    outputsJson,
    activeSteps: message.activeSteps.map((step) => ({
      stepRef: step.stepRef,
      state: stepStateOf(step.state),
      attempt: step.attempt,
      events: step.events,
      deadline: dateOf(step.deadline),
      lastFailure: failureOf(step.lastFailure),
      attemptStartTime: dateOf(step.attemptStartTime),
      lostAttempts: step.lostAttempts,
    })),
    stepResults: message.stepResults.map((result) => ({
      stepRef: result.stepRef,
      state: stepStateOf(result.state),
      event: result.event,
      revision: Number(result.revision),
    })),
    error: message.error && {
      stepRef: message.error.stepRef,
      type: message.error.type,
      message: message.error.message,
      attempts: message.error.attempts,
    },
    labels: message.labels,
    businessKey: message.businessKey,
    inbox: message.inbox.map(bufferedOf),
    createTime: dateOf(message.createTime),
    startTime: dateOf(message.startTime),
    updateTime: dateOf(message.updateTime),
    endTime: dateOf(message.endTime),
  };
}

export function summaryOf(message: instances.InstanceSummary): types.InstanceSummary {
  return {
    instanceId: message.instanceId,
    workflow: message.workflow,
    version: message.version,
    state: stateOf(message.state),
    revision: Number(message.revision),
    businessKey: message.businessKey,
    labels: message.labels,
    createTime: dateOf(message.createTime),
    updateTime: dateOf(message.updateTime),
    endTime: dateOf(message.endTime),
    inboxSize: message.inboxSize,
  };
}

export function watchEndReasonOf(reason: instances.WatchEndReason): types.WatchEndReason {
  return nameOf(instances.WatchEndReasonSchema, reason, types.WATCH_END_REASONS);
}

// --- history -----------------------------------------------------------------------------------------------------

const stepKindOf = (kind: common.StepKind) => nameOf(common.StepKindSchema, kind, facts.STEP_KINDS);
const timerKindOf = (kind: common.TimerKind) => nameOf(common.TimerKindSchema, kind, facts.TIMER_KINDS);

export function entryOf(message: EntryMessage): facts.HistoryEntry {
  return {
    revision: Number(message.revision),
    time: dateOf(message.time),
    requestId: message.requestId,
    ...factOf(message.fact),
  };
}

function factOf({ case: kind, value }: EntryMessage["fact"]): facts.KindOfFact {
  switch (kind) {
    case "instanceStarted": {
      const { workflow, version, definitionDigest, startStep, businessKey, labels } = value;
      const input = payloadInfoOf(value.input);
      const startDelayMs = msOf(value.startDelay);
      const fact = { workflow, version, definitionDigest, startStep, input, businessKey, labels, startDelayMs };
      return { kind: "instance_started", fact };
    }
    case "stepStarted": {
      const fact = { stepRef: value.stepRef, kind: stepKindOf(value.kind), events: value.events };
      return { kind: "step_started", fact };
    }
    case "attemptStarted": {
      const { stepRef, attempt, owner } = value;
      return { kind: "attempt_started", fact: { stepRef, attempt, owner } };
    }
    case "attemptFailed": {
      const { stepRef, attempt, type, message, retrying, failures } = value;
      return { kind: "attempt_failed", fact: { stepRef, attempt, type, message, retrying, failures } };
    }
    case "attemptReleased": {
      const { stepRef, attempt, reason, lost } = value;
      return { kind: "attempt_released", fact: { stepRef, attempt, reason, lost } };
    }
    case "stepSuspended": {
      const { stepRef, attempt, events } = value;
      return { kind: "step_suspended", fact: { stepRef, attempt, events } };
    }
    case "stepFinished": {
      const { stepRef, event, targets } = value;
      const output = payloadInfoOf(value.output);
      const bufferedRevision = Number(value.bufferedRevision);
      const fact = { stepRef, event, targets, output, bufferedRevision, failure: failureOf(value.failure) };
      return { kind: "step_finished", fact };
    }
    case "stepSkipped":
      return { kind: "step_skipped", fact: { stepRef: value.stepRef } };
    case "eventBuffered": {
      const { event, stepRef } = value;
      return { kind: "event_buffered", fact: { event, stepRef, payload: payloadInfoOf(value.payload) } };
    }
    case "timerArmed": {
      const { reference, stepRef, clientRequested } = value;
      const when = { delayMs: msOf(value.delay), dueTime: dateOf(value.dueTime) };
      return { kind: "timer_armed", fact: { reference, kind: timerKindOf(value.kind), stepRef, ...when, clientRequested } };
    }
    case "timerFired": {
      const { reference, stepRef, used, forced } = value;
      return { kind: "timer_fired", fact: { reference, kind: timerKindOf(value.kind), stepRef, used, forced } };
    }
    case "timerCancelled": {
      const { reference, stepRef } = value;
      return { kind: "timer_cancelled", fact: { reference, stepRef } };
    }
    case "instanceCompleted":
      return { kind: "instance_completed", fact: { unconsumed: value.unconsumed.map(bufferedOf) } };
    case "instanceFailed": {
      const { stepRef, interruptedSteps } = value;
      return { kind: "instance_failed", fact: { stepRef, failure: failureOf(value.failure), interruptedSteps } };
    }
    case "instanceCancelled": {
      const fact = { reason: value.reason, unconsumed: value.unconsumed.map(bufferedOf) };
      return { kind: "instance_cancelled", fact };
    }
    case "instanceRetried":
      return { kind: "instance_retried", fact: {} };
    default:
      return { kind: "unknown", fact: {} };
  }
}

// --- timers, workflows -------------------------------------------------------------------------------------------

export function timerOf(message: TimerMessage): types.Timer {
  return {
    reference: message.reference,
    instanceId: message.instanceId,
    stepRef: message.stepRef,
    kind: timerKindOf(message.kind),
    dueTime: dateOf(message.dueTime),
    owner: message.owner,
    createTime: dateOf(message.createTime),
    clientRequested: message.clientRequested,
  };
}

export function workflowOf(message: workflows.Workflow): types.WorkflowVersion {
  return {
    name: message.name,
    version: message.version,
    digest: message.digest,
    start: message.start,
    steps: message.steps.map((step) => ({
      stepRef: step.stepRef,
      kind: stepKindOf(step.kind),
      on: Object.fromEntries(step.transitions.map(({ event, targets }) => [event, targets])),
      events: step.events,
      join: nameOf(workflows.JoinRuleSchema, step.join, types.JOIN_RULES),
      retry: step.retry && {
        maxAttempts: step.retry.maxAttempts,
        initialBackoffMs: msOf(step.retry.initialBackoff) ?? 0,
        maxBackoffMs: msOf(step.retry.maxBackoff) ?? 0,
        multiplier: step.retry.multiplier,
        jitter: step.retry.jitter,
      },
      attemptTimeoutMs: msOf(step.attemptTimeout),
      waitTimeoutMs: msOf(step.waitTimeout),
      sleepMs: msOf(step.sleep),
    })),
    createTime: dateOf(message.createTime),
  };
}

export function workflowSummaryOf(message: workflows.WorkflowSummary): types.WorkflowSummary {
  const { name, version, digest, stepCount } = message;
  return { name, version, digest, stepCount, createTime: dateOf(message.createTime) };
}
