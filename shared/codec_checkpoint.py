"""References of checkpoints and manifests, between their values and their generated messages.

A part of `wardround.shared.codec`, which checks what these return.
"""

from collections.abc import Iterable

from wardround.shared.checkpoint import Manifest
from wardround.shared.messages import CheckpointRef, PartRef, TensorSpec
from wardround.wire.v1 import checkpoint_pb2


def checkpoint_of(record: checkpoint_pb2.CheckpointRef) -> CheckpointRef:
    """Return the reference that a message holds."""
    parts = (
        PartRef(name=part.name, digest=part.digest, size_bytes=part.size_bytes)
        for part in record.parts
    )
    return CheckpointRef(digest=record.digest, parts=tuple(parts))


def specs_of(records: Iterable[checkpoint_pb2.TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the tensors that messages describe."""
    return tuple(TensorSpec(name=r.name, shape=tuple(r.shape), dtype=r.dtype) for r in records)


def checkpoint_record(ref: CheckpointRef) -> checkpoint_pb2.CheckpointRef:
    """Return the message of a reference."""
    parts = [
        checkpoint_pb2.PartRef(name=part.name, digest=part.digest, size_bytes=part.size_bytes)
        for part in ref.parts
    ]
    return checkpoint_pb2.CheckpointRef(digest=ref.digest, parts=parts)


def manifest_record(manifest: Manifest) -> checkpoint_pb2.Manifest:
    """Return the message of a manifest."""
    return checkpoint_pb2.Manifest(
        parts=[
            checkpoint_pb2.PartTensors(name=name, tensors=_spec_records(specs))
            for name, specs in manifest.parts.items()
        ],
        prompt=_spec_records(manifest.prompt),
        labeller=_spec_records(manifest.labeller),
        decoder=[checkpoint_pb2.Form(tensors=_spec_records(form)) for form in manifest.decoder],
    )


def _spec_records(specs: Iterable[TensorSpec]) -> list[checkpoint_pb2.TensorSpec]:
    return [
        checkpoint_pb2.TensorSpec(name=spec.name, shape=spec.shape, dtype=spec.dtype)
        for spec in specs
    ]
