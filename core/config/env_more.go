package config

import (
	"strings"
	"time"
)

func (e *Env) readSwitches(r *reader) {
	e.AdminChatAccess = r.bool(true, "ENABLE_ADMIN_CHAT_ACCESS")
	if _, v, ok := r.env.firstFilled("GALLEY_SIGNOUT_REVOKES"); ok {
		on := isTrue(v)
		e.SignOutRevokes = &on
	}
	e.AdminExport = r.bool(true, "ENABLE_ADMIN_EXPORT")
	e.AdminAnalytics = r.bool(true, "ENABLE_ADMIN_ANALYTICS")
	e.AdminContentAccess = r.bool(true, "ENABLE_ADMIN_WORKSPACE_CONTENT_ACCESS")
	e.BypassAdminAccess = r.bool(true, "BYPASS_ADMIN_ACCESS_CONTROL", "ENABLE_ADMIN_WORKSPACE_CONTENT_ACCESS")
	e.BypassModelAccess = r.bool(false, "BYPASS_MODEL_ACCESS_CONTROL")
	e.BypassRetrievalAccess = r.bool(false, "BYPASS_RETRIEVAL_ACCESS_CONTROL")
	e.UnscopedCollections = r.bool(false, "ENABLE_RETRIEVAL_UNSCOPED_COLLECTIONS")
	e.PublicActiveUsers = r.bool(true, "ENABLE_PUBLIC_ACTIVE_USERS_COUNT")
	e.OpenAIPassthrough = r.bool(false, "ENABLE_OPENAI_API_PASSTHROUGH")
	e.Compression = r.bool(true, "ENABLE_COMPRESSION_MIDDLEWARE")
	e.EasterEggs = r.bool(true, "ENABLE_EASTER_EGGS")
	e.SafeMode = r.bool(false, "SAFE_MODE")
	e.Offline = r.bool(false, "OFFLINE_MODE")
	e.VersionCheck = !e.Offline && r.bool(true, "ENABLE_VERSION_UPDATE_CHECK")
	e.PyodidePersistence = r.bool(false, "ENABLE_PYODIDE_FILE_PERSISTENCE")
	e.Plugins = r.bool(true, "ENABLE_PLUGINS")
	e.Tools = e.Plugins && r.bool(true, "ENABLE_TOOLS")
	e.Functions = e.Plugins && r.bool(true, "ENABLE_FUNCTIONS")
	e.ToolServers = e.Plugins && r.bool(true, "ENABLE_TOOL_SERVERS")
	e.PipRequirements = r.bool(true, "ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS")
	e.Python = r.str("", "GALLEY_PYTHON")
	e.PipOptions = strings.Fields(r.str("", "PIP_OPTIONS"))
	e.PipIndex = strings.Fields(r.str("", "PIP_PACKAGE_INDEX_OPTIONS"))
	e.LocalWebFetch = r.bool(false, "ENABLE_LOCAL_WEB_FETCH", "ENABLE_RAG_LOCAL_WEB_FETCH")
	e.WebFetchFilter = r.list("WEB_FETCH_FILTER_LIST", ",", "")
	e.IframeCSP = r.str("", "IFRAME_CSP")
	e.PWAManifestURL = r.str("", "EXTERNAL_PWA_MANIFEST_URL")
	e.ActiveInterval = r.seconds(time.Minute, "DATABASE_USER_ACTIVE_STATUS_UPDATE_INTERVAL")
	e.ModelsCache = r.seconds(time.Second, "MODELS_CACHE_TTL")
	if v, ok := r.env("MODELS_CACHE_TTL"); ok && v == "" {
		e.ModelsCache = 0
	}
	switch share := strings.ToLower(strings.TrimSpace(r.str("members", "DEFAULT_GROUP_SHARE_PERMISSION"))); share {
	case "members", "true":
		e.GroupShare = share
	default:
		e.GroupShare = "false"
	}
}

func (e *Env) readDatabase(r *reader) {
	d := &e.Database
	kind, user := r.str("", "DATABASE_TYPE"), r.str("", "DATABASE_USER")
	if password := r.str("", "DATABASE_PASSWORD"); password != "" {
		user += ":" + password
	}
	host, port, name := r.str("", "DATABASE_HOST"), r.str("", "DATABASE_PORT"), r.str("", "DATABASE_NAME")
	d.URL = r.str("", "DATABASE_URL")
	if kind != "" && user != "" && host != "" && port != "" && name != "" {
		d.URL = kind + "://" + user + "@" + host + ":" + port + "/" + name
	}
	if kind == "sqlite+sqlcipher" && d.URL == "" {
		d.URL = kind + ":///webui.db" // which the store refuses with a reason
	}
	if r.bool(false, "DATABASE_ENABLE_IAM_TOKEN_AUTH") {
		r.fail("DATABASE_ENABLE_IAM_TOKEN_AUTH", "true", "false: tokens of AWS are not made here, give the user a password")
	}
	d.Schema = r.str("", "DATABASE_SCHEMA")
	d.PoolSize = r.int(0, 0, "DATABASE_POOL_SIZE")
	d.PoolMaxOverflow = r.int(0, -1, "DATABASE_POOL_MAX_OVERFLOW")
	d.PoolTimeout = r.seconds(30*time.Second, "DATABASE_POOL_TIMEOUT")
	d.PoolRecycle = r.seconds(time.Hour, "DATABASE_POOL_RECYCLE")
	d.Migrations = r.bool(true, "ENABLE_DB_MIGRATIONS")
	d.BusyTimeout = r.duration(5*time.Second, time.Millisecond, "DATABASE_SQLITE_PRAGMA_BUSY_TIMEOUT")
	d.Synchronous = r.oneOf("NORMAL", "DATABASE_SQLITE_PRAGMA_SYNCHRONOUS", "OFF", "0", "NORMAL", "1", "FULL", "2", "EXTRA", "3")
	d.NoWAL = !r.bool(true, "DATABASE_ENABLE_SQLITE_WAL")
	d.CacheSize = r.cacheSize("DATABASE_SQLITE_PRAGMA_CACHE_SIZE")
}

// cacheSize is KiB where the number is below zero, and pages of 4 KiB else, as SQLite has it.
func (r *reader) cacheSize(name string) int {
	_, v, ok := r.env.firstFilled(name)
	if !ok {
		return 0
	}
	n, ok := pythonInt(v)
	if !ok || n < -1<<40 || n > 1<<40 {
		r.fail(name, v, "a whole number: of pages, or below zero of KiB")
	}
	if n < 0 {
		return int(-n)
	}
	return int(n) * 4
}

func (e *Env) readRedis(r *reader) {
	e.Redis = Redis{
		URL:               r.str("", "REDIS_URL"),
		Cluster:           r.bool(false, "REDIS_CLUSTER"),
		KeyPrefix:         r.str("open-webui", "REDIS_KEY_PREFIX"),
		SentinelHosts:     r.list("REDIS_SENTINEL_HOSTS", ",", ""),
		SentinelPort:      r.int(26379, 1, "REDIS_SENTINEL_PORT"),
		SentinelRetries:   r.int(2, 1, "REDIS_SENTINEL_MAX_RETRY_COUNT"),
		ConnectTimeout:    r.seconds(0, "REDIS_SOCKET_CONNECT_TIMEOUT"),
		Timeout:           r.seconds(0, "REDIS_SOCKET_TIMEOUT"),
		Keepalive:         r.bool(false, "REDIS_SOCKET_KEEPALIVE"),
		HealthInterval:    r.seconds(0, "REDIS_HEALTH_CHECK_INTERVAL"),
		ReconnectDelay:    r.duration(0, time.Millisecond, "REDIS_RECONNECT_DELAY"),
		TaskTTL:           r.seconds(5*time.Minute, "REDIS_TASK_TTL"),
		ResponseStreamTTL: r.seconds(time.Hour, "REDIS_RESPONSE_STREAM_TTL"),
	}
	if ttl := &e.Redis.TaskTTL; *ttl > 0 && *ttl < time.Minute {
		*ttl = 5 * time.Minute
	}
	e.WebSocket = WebSocket{
		Enabled:           r.bool(true, "ENABLE_WEBSOCKET_SUPPORT"),
		Manager:           r.str("", "WEBSOCKET_MANAGER"),
		RedisURL:          r.str(e.Redis.URL, "WEBSOCKET_REDIS_URL"),
		RedisCluster:      r.bool(e.Redis.Cluster, "WEBSOCKET_REDIS_CLUSTER"),
		SentinelHosts:     r.list("WEBSOCKET_SENTINEL_HOSTS", ",", ""),
		SentinelPort:      r.int(26379, 1, "WEBSOCKET_SENTINEL_PORT"),
		LockTimeout:       r.seconds(time.Minute, "WEBSOCKET_REDIS_LOCK_TIMEOUT"),
		PingInterval:      r.interval(25*time.Second, "WEBSOCKET_SERVER_PING_INTERVAL"),
		PingTimeout:       r.interval(20*time.Second, "WEBSOCKET_SERVER_PING_TIMEOUT"),
		HeartbeatInterval: r.seconds(0, "WEBSOCKET_HEARTBEAT_INTERVAL"),
		CallTimeout:       r.seconds(0, "WEBSOCKET_EVENT_CALLER_TIMEOUT"),
		Deflate:           r.bool(true, "UVICORN_WS_PER_MESSAGE_DEFLATE"),
	}
	if _, _, given := r.env.firstFilled("WEBSOCKET_HEARTBEAT_INTERVAL"); given {
		e.WebSocket.HeartbeatInterval = min(max(e.WebSocket.HeartbeatInterval, 5*time.Second), 90*time.Second)
	}
}

func (e *Env) readClient(r *reader) {
	ca := strings.TrimSpace(r.str("", "AIOHTTP_CLIENT_SSL_CERT_FILE"))
	timeout := r.seconds(0, "AIOHTTP_CLIENT_TIMEOUT")
	e.Client = Client{
		Timeout:           timeout,
		StreamIdle:        r.seconds(0, "AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT"),
		ModelListTimeout:  r.noneIfEmpty(10*time.Second, "AIOHTTP_CLIENT_TIMEOUT_MODEL_LIST", "AIOHTTP_CLIENT_TIMEOUT_OPENAI_MODEL_LIST"),
		ToolTimeout:       r.seconds(timeout, "AIOHTTP_CLIENT_TIMEOUT_TOOL_SERVER"),
		ToolDataTimeout:   r.noneIfEmpty(10*time.Second, "AIOHTTP_CLIENT_TIMEOUT_TOOL_SERVER_DATA"),
		MCPTimeout:        r.seconds(10*time.Second, "MCP_INITIALIZE_TIMEOUT"),
		EmbeddingTimeout:  r.seconds(0, "RAG_EMBEDDING_TIMEOUT"),
		TLS:               r.tls("AIOHTTP_CLIENT_SESSION_SSL", ca),
		ToolTLS:           r.tls("AIOHTTP_CLIENT_SESSION_TOOL_SERVER_SSL", ca),
		Redirects:         r.bool(false, "AIOHTTP_CLIENT_ALLOW_REDIRECTS"),
		UserAgent:         r.str("", "USER_AGENT"),
		MaxConns:          r.int(0, 0, "AIOHTTP_POOL_CONNECTIONS"),
		MaxConnsPerHost:   r.int(0, 0, "AIOHTTP_POOL_CONNECTIONS_PER_HOST"),
		FileChunk:         r.int(1<<20, 1, "AIOHTTP_FILE_STREAM_CHUNK_SIZE"),
		AppPrivateOrigins: r.list("APP_ALLOWED_PRIVATE_ORIGINS", ",", ""),
	}
	e.Forward = Forward{
		Enabled:     r.bool(false, "ENABLE_FORWARD_USER_INFO_HEADERS"),
		UserName:    r.str("X-OpenWebUI-User-Name", "FORWARD_USER_INFO_HEADER_USER_NAME"),
		UserID:      r.str("X-OpenWebUI-User-Id", "FORWARD_USER_INFO_HEADER_USER_ID"),
		UserEmail:   r.str("X-OpenWebUI-User-Email", "FORWARD_USER_INFO_HEADER_USER_EMAIL"),
		UserRole:    r.str("X-OpenWebUI-User-Role", "FORWARD_USER_INFO_HEADER_USER_ROLE"),
		AuthType:    r.str("X-OpenWebUI-Auth-Type", "FORWARD_USER_INFO_HEADER_AUTH_TYPE"),
		MessageID:   r.str("X-OpenWebUI-Message-Id", "FORWARD_SESSION_INFO_HEADER_MESSAGE_ID"),
		ChatID:      r.str("X-OpenWebUI-Chat-Id", "FORWARD_SESSION_INFO_HEADER_CHAT_ID"),
		JWT:         r.str("X-OpenWebUI-User-Jwt", "FORWARD_USER_INFO_HEADER_JWT"),
		JWTSecret:   strings.TrimSpace(r.str("", "FORWARD_USER_INFO_HEADER_JWT_SECRET")),
		JWTLifetime: r.seconds(5*time.Minute, "FORWARD_USER_INFO_HEADER_JWT_EXPIRES_SECONDS"),
	}
}

// noneIfEmpty is seconds, but the first name that is set to "" means no limit.
func (r *reader) noneIfEmpty(fallback time.Duration, names ...string) time.Duration {
	if name, v, ok := r.env.first(names); ok {
		if v == "" {
			return 0
		}
		return r.seconds(fallback, name)
	}
	return fallback
}

func (e *Env) readFeatures(r *reader) {
	e.Storage = Storage{
		Provider: r.str("local", "STORAGE_PROVIDER"), LocalCache: r.bool(true, "STORAGE_LOCAL_CACHE"),
		S3AccessKeyID: r.str("", "S3_ACCESS_KEY_ID"), S3SecretAccessKey: r.str("", "S3_SECRET_ACCESS_KEY"),
		S3Region: r.str("", "S3_REGION_NAME"), S3Bucket: r.str("", "S3_BUCKET_NAME"), S3KeyPrefix: r.str("", "S3_KEY_PREFIX"),
		S3Endpoint: r.str("", "S3_ENDPOINT_URL"), S3Accelerate: r.bool(false, "S3_USE_ACCELERATE_ENDPOINT"),
		S3Addressing: r.str("", "S3_ADDRESSING_STYLE"), S3Tagging: r.bool(false, "S3_ENABLE_TAGGING"),
	}
	e.Audit = Audit{
		Level:  r.oneOf("NONE", "AUDIT_LOG_LEVEL", "NONE", "METADATA", "REQUEST", "REQUEST_RESPONSE"),
		Stdout: r.bool(false, "ENABLE_AUDIT_STDOUT"), ToFile: r.bool(true, "ENABLE_AUDIT_LOGS_FILE"),
		File: r.str("", "AUDIT_LOGS_FILE_PATH"), RotationSize: r.size(10e6, "AUDIT_LOG_FILE_ROTATION_SIZE"),
		MaxBody:  r.int(2048, 0, "MAX_BODY_LOG_SIZE"),
		Excluded: r.paths("AUDIT_EXCLUDED_PATHS", "/chats,/chat,/folders"), Included: r.paths("AUDIT_INCLUDED_PATHS", ""),
		GetRequests: r.bool(false, "ENABLE_AUDIT_GET_REQUESTS"),
	}
	e.Chat = Chat{
		RealtimeSave:    r.bool(false, "ENABLE_REALTIME_CHAT_SAVE"),
		QueriesCache:    r.bool(false, "ENABLE_QUERIES_CACHE"),
		RAGInSystem:     r.bool(false, "RAG_SYSTEM_CONTEXT"),
		SourceMetadata:  r.list("RAG_SOURCE_METADATA_KEYS", ",", ""),
		ModelFallback:   r.bool(false, "ENABLE_CUSTOM_MODEL_FALLBACK"),
		ImageURLs:       r.bool(false, "ENABLE_CHAT_RESPONSE_BASE64_IMAGE_URL_CONVERSION"),
		APIOutlets:      r.bool(true, "ENABLE_API_OUTLET_FILTERS"),
		DeltaChunk:      r.int(1, 0, "CHAT_RESPONSE_STREAM_DELTA_CHUNK_SIZE"),
		MaxToolCalls:    r.int(256, -1, "CHAT_RESPONSE_MAX_TOOL_CALL_ITERATIONS", "CHAT_RESPONSE_MAX_TOOL_CALL_RETRIES"),
		StatefulAPI:     r.bool(false, "ENABLE_RESPONSES_API_STATEFUL"),
		MaxStreamBuffer: r.int(0, 0, "CHAT_STREAM_RESPONSE_CHUNK_MAX_BUFFER_SIZE"),
		KnowledgeExec:   r.bool(false, "ENABLE_KB_EXEC"),
		ExecMaxOutput:   r.int(30_000, 1, "KB_EXEC_MAX_OUTPUT_CHARS"),
		ExecMaxFiles:    r.int(200, 1, "KB_EXEC_MAX_GREP_FILES"),
		GrepMaxMatches:  r.int(50, 1, "KNOWLEDGE_GREP_MAX_MATCHES"),
		ViewMaxChars:    r.int(100_000, 1, "VIEW_FILE_MAX_CHARS"),
		ViewChars:       r.int(10_000, 1, "VIEW_FILE_DEFAULT_MAX_CHARS"),
		SearchMaxChars:  r.int(64<<20, 0, "RAG_FILE_CONTENT_SEARCH_MAX_CHARS"),
		KeepFiles:       r.bool(false, "ENABLE_KNOWLEDGE_FILE_RETENTION"),
	}
	e.Schedule = Schedule{
		Automations: r.interval(10*time.Second, "SCHEDULER_POLL_INTERVAL", "AUTOMATION_POLL_INTERVAL"),
		Timers:      r.interval(time.Second, "TIMER_POLL_INTERVAL"),
		AlertAhead:  r.duration(10*time.Minute, time.Minute, "CALENDAR_ALERT_LOOKAHEAD_MINUTES"),
	}
	e.Embedding = Embedding{
		QueryPrefix: r.str("", "RAG_EMBEDDING_QUERY_PREFIX"), ContentPrefix: r.str("", "RAG_EMBEDDING_CONTENT_PREFIX"),
		PrefixField: r.str("", "RAG_EMBEDDING_PREFIX_FIELD_NAME"),
	}
	e.Images = ProfileImages{
		ForwardURLs: r.bool(true, "ENABLE_PROFILE_IMAGE_URL_FORWARDING"),
		MIMETypes:   r.list("PROFILE_IMAGE_ALLOWED_MIME_TYPES", ",", "image/png,image/jpeg,image/gif,image/webp"),
		MaxDataURI:  r.int(0, 0, "PROFILE_IMAGE_MAX_DATA_URI_SIZE"),
	}
}

// paths is a list of paths without leading slashes.
func (r *reader) paths(name, fallback string) []string {
	out := []string{}
	for _, p := range r.list(name, ",", fallback) {
		if p = strings.TrimLeft(p, "/"); p != "" {
			out = append(out, p)
		}
	}
	return out
}
