"""The JSON objects of ETSI GS QKD 014 v1.1.1, section 6, with the standard's own field names, and its errors.

Unknown fields are left out when an object is read, and so is null, which stands for "not given". The texts of errors
are the standard's where it gives one.
"""

# ruff: noqa: N815  (the standard's names)

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field

NOT_FOUND = "one or more keys specified are not found on KME"
NOT_MULTIPLE_OF_8 = "size shall be a multiple of 8"
NOT_SUPPORTED = "not all extension_mandatory parameters are supported"

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Model = TypeVar("Model", bound="Wire")


class Wire(BaseModel):
    """A JSON object of the standard: numbers are numbers, texts are texts."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value


class Status(Wire):
    """What a KME can deliver to a master SAE for a slave SAE (section 6.1). Sizes in bits."""

    source_KME_ID: str
    target_KME_ID: str
    master_SAE_ID: str
    slave_SAE_ID: str
    key_size: Positive
    stored_key_count: Count
    max_key_count: Count
    max_key_per_request: Positive
    max_key_size: Positive
    min_key_size: Positive
    max_SAE_ID_count: Count


class KeyRequest(Wire):
    """What a master SAE asks for (section 6.2): one key of the default size unless it says otherwise."""

    number: int = 1
    size: int | None = None
    additional_slave_SAE_IDs: tuple[str, ...] = Field((), strict=False)
    extension_mandatory: tuple[dict[str, Any], ...] = Field((), strict=False)
    extension_optional: tuple[dict[str, Any], ...] = Field((), strict=False)


class DeliveredKey(Wire):
    """A key and its id in a container; the material is never printed."""

    key_ID: str
    key: str = Field(repr=False)


class KeyContainer(Wire):
    """What a KME answers to either request for keys (section 6.3); key: base64."""

    keys: tuple[DeliveredKey, ...] = Field(strict=False)


class KeyId(Wire):
    """One id in a request for keys."""

    key_ID: str


class KeyIds(Wire):
    """The ids for which a slave SAE asks (section 6.4)."""

    key_IDs: tuple[KeyId, ...] = Field(strict=False)


class Error(Wire):
    """What a KME answers in place of keys (section 6.5)."""

    message: str
    details: tuple[dict[str, Any], ...] | None = Field(None, strict=False)


class Refusal(Exception):  # noqa: N818  (an answer, not a failure of ours)
    """An answer other than 200: `status` is 400 (bad request), 401 (not authorised) or 503 (error of the server)."""

    def __init__(self, status: int, message: str, *details: dict[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.error = Error(message=message, details=details or None)


def read(model: type[Model], body: bytes) -> Model:
    """Return the object in `body`, or raise a `ValueError` that says what is wrong with it and holds no part of it."""
    try:
        return model.model_validate_json(body or b"{}")
    except pydantic.ValidationError as error:
        wrong = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg'].lower()}" for item in error.errors()]
        raise ValueError("; ".join(wrong[:5])) from None


def canonical(key_id: str) -> str:
    """Return a UUID in lower case with hyphens, or raise `ValueError`."""
    parsed = str(uuid.UUID(key_id))
    if parsed != key_id.lower():
        raise ValueError(f"expected a UUID such as 550e8400-e29b-41d4-a716-446655440000, got {key_id[:60]!r}")
    return parsed
