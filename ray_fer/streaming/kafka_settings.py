"""Where the broker is, how to get in, what the topics are called, and sizes that agree on both ends.

Settings come from a TOML file whose keys are the fields of `KafkaSettings`, from environment variables
`RAY_FER_KAFKA_<FIELD>`, and from the caller (options of a command); what comes later in this list wins.
"""

from __future__ import annotations

import difflib
import logging
import os
import stat
import tomllib
import uuid
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from ray_fer.streaming.messages import MAX_FRAME_BYTES

_LOG = logging.getLogger(__name__)

PREFIX = "RAY_FER_KAFKA_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
"""Environment variable that names the TOML file where no path is given."""

OVERHEAD_BYTES = 64 * 1024
"""Room for the key, headers and batch framing around a value."""

_SASL_FIELDS = ("sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file")
_TLS_FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
FILE_FIELDS = ("sasl_password_file", *_TLS_FILES)


class KafkaSettings(BaseModel):
    """How to reach Kafka. The password prints as stars, also in `model_dump()`, and survives pickling."""

    # Inputs are hidden because an error about the whole would print all of them, the password included.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port[,host:port...]")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_password_file: Path | None = Field(None, description="read by every client when it connects, so on every node")
    ssl_cafile: Path | None = Field(None, description="PEM file of who signed the brokers' certificates")
    ssl_certfile: Path | None = Field(None, description="PEM file of the client's certificate")
    ssl_keyfile: Path | None = Field(None, description="PEM file of the client's private key")
    ssl_check_hostname: bool = True

    frames_topic: str = "frames"
    predictions_topic: str = "predictions"
    dead_letter_topic: str = "frames-dead-letter"
    partitions: int = Field(4, ge=1, description="partitions of topics that are created")

    group: str = "ray-fer"
    instance: str | None = Field(None, min_length=1, description="static membership: a name for this worker alone")
    session_timeout_ms: int = Field(10_000, ge=1000, description="a consumer silent for so long is considered dead")
    processing_guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    transaction_timeout_ms: int = Field(
        10_000, ge=1000, description="the broker aborts a transaction that is open for so long"
    )
    compression: Literal["lz4", "zstd"] | None = Field(None, description="of results; frames are compressed already")

    max_message_bytes: int = Field(
        MAX_FRAME_BYTES + OVERHEAD_BYTES, ge=2 * OVERHEAD_BYTES, description="largest record of the frames topic"
    )
    max_partition_fetch_bytes: int | None = Field(None, description="one partition's share (default: a largest record)")
    fetch_max_bytes: int | None = Field(None, description="one answer of a broker (default: four shares)")
    max_poll_records: int = Field(
        100,
        ge=1,
        description="records that are taken in at once; meanwhile nobody looks whether the model has answered",
    )

    @model_validator(mode="after")
    def _security_fits_together(self) -> KafkaSettings:
        sasl = self.security_protocol.startswith("SASL")
        if sasl and self.sasl_mechanism is None:
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_mechanism PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
            )
        if sasl and self.sasl_username is None:
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_username")
        if sasl and (self.sasl_password is None) == (self.sasl_password_file is None):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs one of sasl_password_file and sasl_password "
                f"(the latter in the file or as {PREFIX}SASL_PASSWORD)"
            )
        for name in () if sasl else _SASL_FIELDS:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is given, but security_protocol is not SASL_SSL or SASL_PLAINTEXT")
        for name in () if self.security_protocol.endswith("SSL") else _TLS_FILES:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is given, but security_protocol is not SSL or SASL_SSL")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("ssl_keyfile needs ssl_certfile")
        return self

    @model_validator(mode="after")
    def _sizes_agree(self) -> KafkaSettings:
        if self.partition_fetch_bytes < self.max_message_bytes:
            raise ValueError(
                f"max_partition_fetch_bytes {self.max_partition_fetch_bytes} is below "
                f"max_message_bytes {self.max_message_bytes}: the largest record could not be read"
            )
        if self.fetch_bytes < self.partition_fetch_bytes:
            raise ValueError(
                f"fetch_max_bytes {self.fetch_bytes} is below max_partition_fetch_bytes {self.partition_fetch_bytes}"
            )
        return self

    @property
    def state_topic(self) -> str:
        """Compacted topic of what the group's workers remember of the streams of the frames topic."""
        return f"{self.frames_topic}-{self.group}-state"

    @property
    def partition_fetch_bytes(self) -> int:
        return self.max_partition_fetch_bytes or self.max_message_bytes

    @property
    def fetch_bytes(self) -> int:
        return self.fetch_max_bytes or 4 * self.partition_fetch_bytes

    @property
    def dead_letter_bytes(self) -> int:
        """Largest dead letter: a largest record and the headers that say what is wrong with it."""
        return self.max_message_bytes + OVERHEAD_BYTES

    def password(self) -> str:
        """The SASL password, from its file if it lies in one (without the line's end)."""
        if self.sasl_password_file is not None:
            return self.sasl_password_file.read_text(encoding="utf-8").rstrip("\r\n")
        return "" if self.sasl_password is None else self.sasl_password.get_secret_value()

    def topics(self) -> list[str]:
        return [self.frames_topic, self.predictions_topic, self.dead_letter_topic, self.state_topic]

    def transactional_id(self) -> str:
        """The static member's own id, which fences its predecessor; without `instance` a new one at every call."""
        return f"{self.group}-{self.instance or uuid.uuid4().hex[:12]}"

    @classmethod
    def read(cls, path: Path | None = None, **overrides: Any) -> KafkaSettings:
        """Settings of the file (default: the one that RAY_FER_KAFKA_CONFIG names), the environment and `overrides`.

        Overrides that are None are passed over; relative paths in the file count from its folder. Raises ValueError
        with one line that says where the mistake is and what is allowed.
        """
        if path is None and (named := os.environ.get(CONFIG_VARIABLE)):
            path = Path(named)
        given = {} if path is None else _from_file(path)
        given |= _from_environment()
        given |= {name: (f"option {name}", value) for name, value in overrides.items() if value is not None}
        try:
            settings = cls(**{name: value for name, (_, value) in given.items()})
        except ValidationError as error:
            raise ValueError(_explain(error, given, path)) from None
        if path is not None and given.get("sasl_password", ("",))[0].startswith(f"{path}:"):
            _warn_if_readable(path)
        for name in ("sasl_password_file", "ssl_keyfile"):
            _warn_if_readable(getattr(settings, name))
        return settings


_Given = dict[str, tuple[str, Any]]
"""Field -> (where it was given, value)."""


def _from_file(path: Path) -> _Given:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such Kafka settings file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    for name in FILE_FIELDS:
        if isinstance(content.get(name), str):
            content[name] = path.parent / Path(content[name]).expanduser()
    return {name: (f"{path}: {name}", value) for name, value in content.items()}


def _from_environment() -> _Given:
    """Variables that are set to nothing count as not set."""
    return {
        name.removeprefix(PREFIX).lower(): (name, value)
        for name, value in os.environ.items()
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and value
    }


def _explain(error: ValidationError, given: _Given, path: Path | None) -> str:
    lines = []
    for one in error.errors():
        message = one["msg"].removeprefix("Value error, ")
        if not one["loc"]:
            lines.append(f"{path or 'Kafka settings'}: {message}")
            continue
        name = str(one["loc"][0])
        where, value = given[name]
        if one["type"] == "extra_forbidden":
            known = list(KafkaSettings.model_fields)
            near = difflib.get_close_matches(name, known, n=1)
            if where.startswith(PREFIX):
                known, near = [f"{PREFIX}{one.upper()}" for one in known], [f"{PREFIX}{one.upper()}" for one in near]
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            lines.append(f"{where}: unknown key; {hint}")
        else:
            got = "" if name == "sasl_password" else f", got {value!r}"
            lines.append(f"{where}: {message}{got}")
    return "; ".join(lines)


def _warn_if_readable(path: Path | None) -> None:
    """Warn of a file that holds a secret and that every user of this machine can read."""
    if path is not None and os.name == "posix" and path.is_file() and path.stat().st_mode & stat.S_IROTH:
        _LOG.warning("%s holds a secret and every user can read it; run `chmod o-r %s`", path, path)
