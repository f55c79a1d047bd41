import assert from "node:assert/strict";
import { test } from "node:test";

import { isLoopback } from "#dist/connection";

test("loopback addresses are recognized", () => {
  for (const target of ["127.0.0.1:1", "localhost:1", "[::1]:1", "dns:///localhost:1", "unix:/run/x"])
    assert.ok(isLoopback(target), target);
  for (const target of ["10.0.0.1:1", "perdure.example:1", "dns:///127.0.0.1.example:1"])
    assert.ok(!isLoopback(target), target);
});
