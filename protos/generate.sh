#!/usr/bin/env bash
# Generates the Python code of the wire contract, which is committed: protos/generate.sh [OUT], OUT is protos if left out.
#
# Needs grpcio-tools 1.81.1 and mypy-protobuf 5.1.0 (`pip install -e ".[dev]"`). PYTHON names the interpreter that has them;
# the project's own .venv is taken when it is not set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON="${PYTHON:-.venv/bin/python}"
out="${1:-protos}"

want="1.81.1"
got="$("$PYTHON" -c 'from importlib.metadata import version; print(version("grpcio-tools"))')"
if [[ "$got" != "$want" ]]; then
  echo "protos/generate.sh: grpcio-tools $want is needed, $PYTHON has $got; install '.[dev]' there" >&2
  exit 1
fi

# protoc looks for its mypy plug-in on PATH, and it lies beside the interpreter.
export PATH="$(cd "$(dirname "$(command -v "$PYTHON")")" && pwd):$PATH"
"$PYTHON" -m grpc_tools.protoc -Iprotos --python_out="$out" --mypy_out="$out" protos/wardround/wire/v1/*.proto
# These files have a service; the others would give empty modules.
"$PYTHON" -m grpc_tools.protoc -Iprotos --grpc_python_out="$out" --mypy_grpc_out="$out" \
  protos/wardround/wire/v1/relay.proto protos/wardround/wire/v1/study.proto
