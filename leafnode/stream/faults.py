"""JetStream's errors: (code, err_code, text), as nats-server answers (spec jetstream-api section 14).

Texts with a `{}` are completed by the caller. `fault(NAME, …)` makes the ApiError.
"""

from typing import NamedTuple

from leafnode.errors import ApiError


class Fault(NamedTuple):
    code: int
    err_code: int
    text: str


def fault(kind: Fault, *values: object) -> ApiError:
    """The exception to raise for one kind of error."""
    return ApiError(kind.code, kind.err_code, kind.text.format(*values))


RESOURCES_EXCEEDED = Fault(400, 10002, "resource limits exceeded for account")
BAD_REQUEST = Fault(400, 10003, "bad request")
CLUSTERING_REQUIRED = Fault(503, 10010, "JetStream clustering support required")
CONSUMER_CREATE = Fault(500, 10012, "{}")
CONSUMER_NAME_IN_USE = Fault(400, 10013, "consumer name already in use")
CONSUMER_NOT_FOUND = Fault(404, 10014, "consumer not found")
DURABLE_NAME_NOT_IN_SUBJECT = Fault(400, 10016, "consumer expected to be durable but no durable name set in subject")
DURABLE_NAME_NO_MATCH = Fault(400, 10017, "consumer name in subject does not match durable name in request")
DURABLE_NAME_MISSING = Fault(400, 10018, "consumer expected to be durable but a durable name was not set")
EPHEMERAL_WITH_DURABLE_SUBJECT = Fault(
    400, 10019, "consumer expected to be ephemeral but detected a durable name set in subject"
)
EPHEMERAL_WITH_DURABLE_NAME = Fault(
    400, 10020, "consumer expected to be ephemeral but a durable name was set in request"
)
INVALID_JSON = Fault(400, 10025, "invalid JSON: {}")
MAX_CONSUMERS = Fault(400, 10026, "maximum consumers limit reached")
MAX_STREAMS = Fault(400, 10027, "maximum number of streams reached")
MIRROR_WITH_SOURCES = Fault(400, 10031, "stream mirrors can not also contain other sources")
MIRROR_WITH_SUBJECTS = Fault(400, 10034, "stream mirrors can not contain subjects")
NO_MESSAGE = Fault(404, 10037, "no message found")
NOT_EMPTY = Fault(400, 10038, "expected an empty request payload")
NOT_ENABLED_FOR_ACCOUNT = Fault(503, 10039, "JetStream not enabled for account")
SEQUENCE_NOT_FOUND = Fault(400, 10043, "sequence {} not found")
NO_STORAGE = Fault(500, 10047, "insufficient storage resources available")
STREAM_CREATE = Fault(500, 10049, "{}")
STREAM_GENERAL = Fault(500, 10051, "{}")
INVALID_STREAM_CONFIG = Fault(500, 10052, "{}")
MESSAGE_TOO_BIG = Fault(400, 10054, "message size exceeds maximum allowed")
MIRROR_UPDATE = Fault(400, 10055, "stream mirror configuration can not be updated")
STREAM_MISMATCH = Fault(400, 10056, "stream name in subject does not match request")
MESSAGE_DELETE = Fault(500, 10057, "{}")
STREAM_NAME_IN_USE = Fault(400, 10058, "stream name already in use with a different configuration")
STREAM_NOT_FOUND = Fault(404, 10059, "stream not found")
EXPECTED_STREAM = Fault(400, 10060, "expected stream does not match")
SUBJECT_OVERLAP = Fault(400, 10065, "subjects overlap with an existing stream")
WRONG_LAST_ID = Fault(400, 10070, "wrong last msg ID: {}")
WRONG_LAST_SEQUENCE = Fault(400, 10071, "wrong last sequence: {}")
NO_REPLICAS = Fault(500, 10074, "replicas > 1 not supported in non-clustered mode")
STORE_FAILED = Fault(503, 10077, "{}")
CONSUMER_CONFIG_REQUIRED = Fault(400, 10078, "consumer config required")
DELIVER_WILDCARDS = Fault(400, 10079, "consumer deliver subject has wildcards")
PUSH_MAX_WAITING = Fault(400, 10080, "consumer in push mode can not set max waiting")
DELIVER_CYCLE = Fault(400, 10081, "consumer deliver subject forms a cycle")
MAX_ACK_PENDING_POLICY = Fault(400, 10082, "consumer requires ack policy for max ack pending")
SMALL_HEARTBEAT = Fault(400, 10083, "consumer idle heartbeat needs to be >= 100ms")
WORKQUEUE_PULL_ACK = Fault(400, 10084, "consumer in pull mode requires explicit ack policy on workqueue stream")
PULL_RATE_LIMIT = Fault(400, 10086, "consumer in pull mode can not have rate limit set")
HEARTBEAT_PUSH = Fault(400, 10088, "consumer idle heartbeat requires a push based consumer")
FLOW_CONTROL_PUSH = Fault(400, 10089, "consumer flow control requires a push based consumer")
DIRECT_PUSH = Fault(400, 10090, "consumer direct requires a push based consumer")
DIRECT_EPHEMERAL = Fault(400, 10091, "consumer direct requires an ephemeral consumer")
DELIVER_POLICY = Fault(400, 10094, "{}")
BAD_SAMPLING = Fault(400, 10095, "failed to parse consumer sampling configuration: {}")
HEADERS_TOO_BIG = Fault(400, 10097, "header size exceeds maximum allowed of 64k")
WORKQUEUE_ACK = Fault(400, 10098, "workqueue stream requires explicit ack")
WORKQUEUE_MULTIPLE = Fault(400, 10099, "multiple non-filtered consumers not allowed on workqueue stream")
WORKQUEUE_NOT_UNIQUE = Fault(400, 10100, "filtered consumer not unique on workqueue stream")
WORKQUEUE_DELIVER_ALL = Fault(400, 10101, "consumer must be deliver all on workqueue stream")
CONSUMER_NAME_LONG = Fault(400, 10102, "consumer name is too long, maximum allowed is {}")
FLOW_CONTROL_HEARTBEAT = Fault(400, 10108, "consumer with flow control also needs heartbeats")
CONSUMER_DESCRIPTION = Fault(400, 10107, "consumer description is too long, maximum allowed is 4096")
SEALED = Fault(400, 10109, "invalid operation on sealed stream")
PURGE = Fault(500, 10110, "{}")
ROLLUP = Fault(500, 10111, "{}")
DELIVER_INVALID = Fault(400, 10112, "invalid push consumer deliver subject")
MAX_BYTES_REQUIRED = Fault(400, 10113, "account requires a stream config to have max bytes set")
SMALL_MAX_EXPIRES = Fault(400, 10115, "consumer max request expires needs to be >= 1ms")
MAX_DELIVER_BACKOFF = Fault(400, 10116, "max deliver is required to be > length of backoff values")
TOO_MANY_DETAILS = Fault(500, 10117, "subject details would exceed maximum allowed")
MAX_ACK_PENDING = Fault(400, 10121, "consumer max ack pending exceeds system limit of {}")
MAX_REQUEST_BATCH = Fault(400, 10125, "consumer max request batch exceeds server limit of {}")
MAX_STREAM_BYTES = Fault(400, 10122, "stream max bytes exceeds account limit max stream bytes")
CONSUMER_NAME_PATH = Fault(400, 10127, "Consumer name can not contain path separators")
STREAM_NAME_PATH = Fault(400, 10128, "Stream name can not contain path separators")
FILTER_MISMATCH = Fault(400, 10131, "Consumer create request did not match filtered subject from create subject")
CONSUMER_NAMES_DIFFER = Fault(400, 10132, "Consumer Durable and Name have to be equal if both are provided")
NEGATIVE_REPLICAS = Fault(400, 10133, "replicas count cannot be negative")
CONSUMER_METADATA = Fault(400, 10135, "consumer metadata exceeds maximum size of 128KB")
BOTH_FILTERS = Fault(400, 10136, "consumer cannot have both FilterSubject and FilterSubjects specified")
FILTERS_NOT_IN_SUBJECT = Fault(400, 10137, "consumer with multiple subject filters cannot use subject based API")
FILTERS_OVERLAP = Fault(400, 10138, "consumer subject filters cannot overlap")
EMPTY_FILTER = Fault(400, 10139, "consumer filter in FilterSubjects cannot be empty")
DUPLICATE_SOURCE = Fault(400, 10140, "duplicate source configuration detected")
MIRROR_FIRST_SEQ = Fault(400, 10143, "stream mirrors can not have first sequence configured")
SOURCE_FILTER_TRANSFORM = Fault(
    400, 10144, "source with multiple subject transforms cannot also have a single subject filter"
)
SOURCE_FILTERS_OVERLAP = Fault(400, 10147, "source filters can not overlap")
CONSUMER_EXISTS = Fault(400, 10148, "consumer already exists")
CONSUMER_DOES_NOT_EXIST = Fault(400, 10149, "consumer does not exist")
MIRROR_FILTER_TRANSFORM = Fault(
    400, 10150, "mirror with multiple subject transforms cannot also have a single subject filter"
)
MIRROR_FILTERS_OVERLAP = Fault(400, 10152, "mirror subject filters can not overlap")
INACTIVE_THRESHOLD = Fault(400, 10153, "consumer inactive threshold exceeds system limit of {}")
TRANSFORM_SOURCE = Fault(400, 10155, "stream transform source: {}")
TRANSFORM_DESTINATION = Fault(400, 10156, "stream transform: {}")
EXTERNAL_API_OVERLAP = Fault(400, 10021, "stream external api prefix {} must not overlap with {}")
PEDANTIC = Fault(400, 10157, "pedantic mode: {}")
POLICY_WITHOUT_GROUPS = Fault(400, 10159, "Setting PriorityPolicy requires at least one PriorityGroup to be set")
GROUP_UNKNOWN = Fault(400, 10160, "Provided priority group does not exist for this consumer")
GROUP_NAME_EMPTY = Fault(400, 10161, "Group name cannot be an empty string")
GROUP_NAME_INVALID = Fault(
    400,
    10162,
    "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and may not exceed 16 characters",
)
INVALID_TTL = Fault(400, 10165, "invalid per-message TTL")
TTL_DISABLED = Fault(400, 10166, "per-message TTL is disabled")
COUNTER_DISABLED = Fault(400, 10168, "message counters is disabled")
BATCH_DISABLED = Fault(400, 10174, "batch publish is disabled")
GROUPS_PUSH = Fault(400, 10178, "priority groups can not be used with push consumers")
ACK_WAIT_NEGATIVE = Fault(400, 10183, "consumer ack wait needs to be positive")
BACKOFF_NEGATIVE = Fault(400, 10184, "consumer backoff needs to be positive")
API_LEVEL = Fault(412, 10185, "JetStream minimum api level required")
SCHEDULES_DISABLED = Fault(400, 10188, "message schedules is disabled")
MISSING_SUBJECT_SEQUENCE = Fault(400, 10193, "missing sequence for expected last sequence per subject")
GROUPS_WITHOUT_POLICY = Fault(400, 10196, "consumer can not have priority groups when policy is none")
TIMEOUT_WITHOUT_POLICY = Fault(400, 10197, "PinnedTTL cannot be set when PriorityPolicy is none")
INVALID_RESET = Fault(400, 10204, "invalid reset: {}")
FLOW_ACKS_PUSH = Fault(400, 10218, "flow control ack policy requires a push based consumer")
FLOW_ACKS_FLOW_CONTROL = Fault(400, 10219, "flow control ack policy requires flow control")
FLOW_ACKS_MAX_ACK_PENDING = Fault(400, 10220, "flow control ack policy requires max ack pending")
FLOW_ACKS_ACK_WAIT = Fault(400, 10221, "flow control ack policy requires unset ack wait")
FLOW_ACKS_MAX_DELIVER = Fault(400, 10222, "flow control ack policy requires unset max deliver")
STREAM_IDENTITY = Fault(400, 10225, "consumer's stream identity does not match: {}")
SOURCE_HEADER = Fault(400, 10227, "message stream source header is not allowed")
