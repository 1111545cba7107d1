package config

import (
	"log/slog"
	"net/http"
	"time"
)

// Env is the process settings: what stays the same while the server runs. [ReadEnv] fills it from the environment;
// flags may then change it, and [Env.Finish] derives what was left open. Durations are zero where there is no limit.
type Env struct {
	// Lookup is where Env was read from, for variables that other packages read on their own (OTEL_…, PGVECTOR_…).
	Lookup LookupFunc

	Host         string     // HOST: address to listen on, 0.0.0.0 by default
	Port         int        // PORT: 8080 by default
	Mode         string     // ENV: dev (the default), test or prod
	Name         string     // WEBUI_NAME; another name than Open WebUI gets " (Open WebUI)" behind it, as its licence asks
	URL          string     // WEBUI_URL: initial value of webui.url, which counts at run time
	BuildHash    string     // WEBUI_BUILD_HASH
	DeploymentID string     // DEPLOYMENT_ID
	InstanceID   string     // INSTANCE_ID: of this process, random by default
	LogLevel     slog.Level // GLOBAL_LOG_LEVEL: INFO by default
	LogFormat    string     // LOG_FORMAT: "json", else text

	DataDir     string // DATA_DIR: ./data by default; Finish makes it absolute
	FrontendDir string // FRONTEND_BUILD_DIR: the built frontend; "" means none
	StaticDir   string // STATIC_DIR: files served below /static; Finish takes FrontendDir/static for ""
	PluginsDir  string // PLUGINS_DIR: Finish takes DataDir/plugins for ""

	// PluginsUpload lets administrators install plugins by way of the API: PLUGINS_UPLOAD, true by default.
	PluginsUpload bool

	MaxBody   int64 // MAX_BODY_SIZE: bytes of a request that is not an upload, 128 MiB by default; 0 means any
	MaxUpload int64 // MAX_UPLOAD_SIZE: bytes of an uploaded file, any by default

	Database  Database
	Redis     Redis
	WebSocket WebSocket
	Client    Client
	Forward   Forward
	Cookies   Cookies
	Trusted   Trusted
	Password  Password
	Admin     Admin
	OAuth     OAuth
	SCIM      SCIM
	Storage   Storage
	Audit     Audit
	Chat      Chat
	Schedule  Schedule
	Embedding Embedding
	Images    ProfileImages

	PersistentConfig      bool // ENABLE_PERSISTENT_CONFIG: rows of the table config override the environment
	OAuthPersistentConfig bool // ENABLE_OAUTH_PERSISTENT_CONFIG: rows of oauth.… do too
	ResetConfig           bool // RESET_CONFIG_ON_START: delete all rows at the start

	Auth                 bool   // WEBUI_AUTH: false makes everyone the first administrator
	SecretKey            string // WEBUI_SECRET_KEY or WEBUI_JWT_SECRET_KEY; [Env.LoadSecretKey] fills it else
	SecretKeyFile        string // WEBUI_SECRET_KEY_FILE: Finish takes DataDir/.webui_secret_key for ""; see LoadSecretKey
	SecretKeyLength      int    // WEBUI_SECRET_KEY_LENGTH: random bytes of a generated key, 24 by default
	MFAKey               string // MFA_ENCRYPTION_KEY: a Fernet key; "" means one derived from SecretKey
	JWTExpiresIn         string // JWT_EXPIRES_IN: initial value of auth.jwt_expiry, which counts at run time
	APIKeyHeader         string // CUSTOM_API_KEY_HEADER: x-api-key by default
	SignoutRedirectURL   string // WEBUI_AUTH_SIGNOUT_REDIRECT_URL; "" means none
	InitialAdminSignup   bool   // ENABLE_INITIAL_ADMIN_SIGNUP: the first account may register though the form is off
	PasswordAuth         bool   // ENABLE_PASSWORD_AUTH
	PasswordConfirmation bool   // ENABLE_SIGNUP_PASSWORD_CONFIRMATION
	ValveEncryption      bool   // ENABLE_VALVE_ENCRYPTION

	CORSOrigins []string // CORS_ALLOW_ORIGIN, split at ";"; {"*"} means any
	CORSSchemes []string // CORS_ALLOW_CUSTOM_SCHEME, split at ";": besides http and https

	// Headers are of every answer: HSTS, CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, XFRAME_OPTIONS,
	// XCONTENT_TYPE, XDOWNLOAD_OPTIONS, XPERMITTED_CROSS_DOMAIN_POLICIES, REFERRER_POLICY, PERMISSIONS_POLICY, CACHE_CONTROL,
	// CROSS_ORIGIN_EMBEDDER_POLICY, …_OPENER_POLICY, …_RESOURCE_POLICY and REPORTING_ENDPOINTS. None is set by default.
	Headers http.Header
	// ForwardedAllow is FORWARDED_ALLOW_IPS: addresses and networks of proxies, with commas between them, whose
	// X-Forwarded-For and X-Forwarded-Proto are believed. "*", the default as in the reference's start, believes everybody:
	// name the proxy where clients can reach the server past it, or they choose the address that logs and limits see.
	ForwardedAllow string

	AdminChatAccess       bool // ENABLE_ADMIN_CHAT_ACCESS
	AdminExport           bool // ENABLE_ADMIN_EXPORT
	AdminAnalytics        bool // ENABLE_ADMIN_ANALYTICS
	AdminContentAccess    bool // ENABLE_ADMIN_WORKSPACE_CONTENT_ACCESS
	BypassAdminAccess     bool // BYPASS_ADMIN_ACCESS_CONTROL; unset it is AdminContentAccess
	BypassModelAccess     bool // BYPASS_MODEL_ACCESS_CONTROL
	BypassRetrievalAccess bool // BYPASS_RETRIEVAL_ACCESS_CONTROL
	UnscopedCollections   bool // ENABLE_RETRIEVAL_UNSCOPED_COLLECTIONS
	PublicActiveUsers     bool // ENABLE_PUBLIC_ACTIVE_USERS_COUNT
	OpenAIPassthrough     bool // ENABLE_OPENAI_API_PASSTHROUGH
	Compression           bool // ENABLE_COMPRESSION_MIDDLEWARE
	EasterEggs            bool // ENABLE_EASTER_EGGS
	SafeMode              bool // SAFE_MODE: switches all functions off at the start
	Offline               bool // OFFLINE_MODE
	VersionCheck          bool // ENABLE_VERSION_UPDATE_CHECK, and not Offline
	PyodidePersistence    bool // ENABLE_PYODIDE_FILE_PERSISTENCE
	Plugins               bool // ENABLE_PLUGINS: false switches the three below off
	Tools                 bool // ENABLE_TOOLS
	Functions             bool // ENABLE_FUNCTIONS
	ToolServers           bool // ENABLE_TOOL_SERVERS
	PipRequirements       bool // ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS: install what tools and functions ask for
	LocalWebFetch         bool // ENABLE_LOCAL_WEB_FETCH or ENABLE_RAG_LOCAL_WEB_FETCH: fetch private addresses

	// SignOutRevokes is GALLEY_SIGNOUT_REVOKES, whether signing out ends the session at the server, and not only in the
	// browser. Nil, the default, ends it where Redis is set, as the reference does, and else where a person signs out,
	// whose browser sends its cookie; a program that sends a bearer token alone keeps it. True always ends it. False is
	// the reference's way: never without Redis.
	SignOutRevokes *bool

	Python     string   // GALLEY_PYTHON: the interpreter for tools and functions; "" means python3 of PATH
	PipOptions []string // PIP_OPTIONS: options of pip before packages
	PipIndex   []string // PIP_PACKAGE_INDEX_OPTIONS: options of pip behind packages

	WebFetchFilter []string // WEB_FETCH_FILTER_LIST: hosts and networks ("!" refuses), besides the built-in ones
	IframeCSP      string   // IFRAME_CSP
	PWAManifestURL string   // EXTERNAL_PWA_MANIFEST_URL; "" means the built-in manifest

	// GroupShare is DEFAULT_GROUP_SHARE_PERMISSION, who may share with a new group: "members", "true" or "false".
	GroupShare string
	// ActiveInterval is DATABASE_USER_ACTIVE_STATUS_UPDATE_INTERVAL, the time between two writes of a user's last
	// activity: one minute by default, 0 writes none.
	ActiveInterval time.Duration
	// ModelsCache is MODELS_CACHE_TTL, for how long a list of models is kept: one second by default.
	ModelsCache time.Duration
}

// Database says where the data is. The URL is kept as text; core/store reads it.
type Database struct {
	// URL is DATABASE_URL (sqlite:///relative, sqlite:////absolute, postgresql:// or postgres://), or made of
	// DATABASE_TYPE, _USER, _PASSWORD, _HOST, _PORT and _NAME where all are set; Finish takes webui.db in DataDir else.
	URL             string
	Schema          string        // DATABASE_SCHEMA; "" means the server's search path
	PoolSize        int           // DATABASE_POOL_SIZE; 0 means the store's default
	PoolMaxOverflow int           // DATABASE_POOL_MAX_OVERFLOW
	PoolTimeout     time.Duration // DATABASE_POOL_TIMEOUT: wait for a connection
	PoolRecycle     time.Duration // DATABASE_POOL_RECYCLE: age at which a connection is closed
	Migrations      bool          // ENABLE_DB_MIGRATIONS
	BusyTimeout     time.Duration // DATABASE_SQLITE_PRAGMA_BUSY_TIMEOUT, in ms there; 0 leaves SQLite's
	Synchronous     string        // DATABASE_SQLITE_PRAGMA_SYNCHRONOUS: NORMAL by default
	NoWAL           bool          // DATABASE_ENABLE_SQLITE_WAL is false: a rollback journal, for file systems without shared memory
	CacheSize       int           // DATABASE_SQLITE_PRAGMA_CACHE_SIZE, in KiB for each connection; 0 means the store's default
}

// Redis is how several processes find each other; URL "" means that this one is alone.
type Redis struct {
	URL               string        // REDIS_URL
	Cluster           bool          // REDIS_CLUSTER
	KeyPrefix         string        // REDIS_KEY_PREFIX: open-webui by default
	SentinelHosts     []string      // REDIS_SENTINEL_HOSTS, split at ","
	SentinelPort      int           // REDIS_SENTINEL_PORT
	SentinelRetries   int           // REDIS_SENTINEL_MAX_RETRY_COUNT
	ConnectTimeout    time.Duration // REDIS_SOCKET_CONNECT_TIMEOUT
	Timeout           time.Duration // REDIS_SOCKET_TIMEOUT
	Keepalive         bool          // REDIS_SOCKET_KEEPALIVE
	HealthInterval    time.Duration // REDIS_HEALTH_CHECK_INTERVAL
	ReconnectDelay    time.Duration // REDIS_RECONNECT_DELAY, in ms there
	TaskTTL           time.Duration // REDIS_TASK_TTL: 300 s by default, also for 1 to 59 s
	ResponseStreamTTL time.Duration // REDIS_RESPONSE_STREAM_TTL
}

// WebSocket is the Socket.IO server.
type WebSocket struct {
	Enabled           bool          // ENABLE_WEBSOCKET_SUPPORT: false leaves long polling only
	Manager           string        // WEBSOCKET_MANAGER: "redis" or ""
	RedisURL          string        // WEBSOCKET_REDIS_URL; REDIS_URL by default
	RedisCluster      bool          // WEBSOCKET_REDIS_CLUSTER; REDIS_CLUSTER by default
	SentinelHosts     []string      // WEBSOCKET_SENTINEL_HOSTS, split at ","
	SentinelPort      int           // WEBSOCKET_SENTINEL_PORT
	LockTimeout       time.Duration // WEBSOCKET_REDIS_LOCK_TIMEOUT
	PingInterval      time.Duration // WEBSOCKET_SERVER_PING_INTERVAL: 25 s by default
	PingTimeout       time.Duration // WEBSOCKET_SERVER_PING_TIMEOUT: 20 s by default
	HeartbeatInterval time.Duration // WEBSOCKET_HEARTBEAT_INTERVAL: brought into 5 to 90 s; 0 means the client's
	CallTimeout       time.Duration // WEBSOCKET_EVENT_CALLER_TIMEOUT: wait for a client's answer
	Deflate           bool          // UVICORN_WS_PER_MESSAGE_DEFLATE
}

// TLSVerify says how a server's certificate is looked at: not at all, or against a file of authorities ("" is the
// system's).
type TLSVerify struct {
	Skip   bool
	CAFile string
}

// Client is how the server calls others.
type Client struct {
	Timeout           time.Duration // AIOHTTP_CLIENT_TIMEOUT: of a whole request, none by default
	StreamIdle        time.Duration // AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT: between two chunks
	ModelListTimeout  time.Duration // AIOHTTP_CLIENT_TIMEOUT_MODEL_LIST or …_OPENAI_MODEL_LIST: 10 s by default
	ToolTimeout       time.Duration // AIOHTTP_CLIENT_TIMEOUT_TOOL_SERVER; Timeout by default
	ToolDataTimeout   time.Duration // AIOHTTP_CLIENT_TIMEOUT_TOOL_SERVER_DATA: 10 s by default
	MCPTimeout        time.Duration // MCP_INITIALIZE_TIMEOUT: 10 s by default
	EmbeddingTimeout  time.Duration // RAG_EMBEDDING_TIMEOUT
	TLS               TLSVerify     // AIOHTTP_CLIENT_SESSION_SSL, with AIOHTTP_CLIENT_SSL_CERT_FILE
	ToolTLS           TLSVerify     // AIOHTTP_CLIENT_SESSION_TOOL_SERVER_SSL
	Redirects         bool          // AIOHTTP_CLIENT_ALLOW_REDIRECTS
	UserAgent         string        // USER_AGENT of web pages that are fetched; "" means the loader's own
	MaxConns          int           // AIOHTTP_POOL_CONNECTIONS; 0 means any number
	MaxConnsPerHost   int           // AIOHTTP_POOL_CONNECTIONS_PER_HOST; 0 means any number
	FileChunk         int           // AIOHTTP_FILE_STREAM_CHUNK_SIZE: bytes, 1 MiB by default
	AppPrivateOrigins []string      // APP_ALLOWED_PRIVATE_ORIGINS, split at ","
}

// Forward is what upstream servers are told of the user, in headers.
type Forward struct {
	Enabled     bool          // ENABLE_FORWARD_USER_INFO_HEADERS
	UserName    string        // FORWARD_USER_INFO_HEADER_USER_NAME
	UserID      string        // FORWARD_USER_INFO_HEADER_USER_ID
	UserEmail   string        // FORWARD_USER_INFO_HEADER_USER_EMAIL
	UserRole    string        // FORWARD_USER_INFO_HEADER_USER_ROLE
	AuthType    string        // FORWARD_USER_INFO_HEADER_AUTH_TYPE
	MessageID   string        // FORWARD_SESSION_INFO_HEADER_MESSAGE_ID
	ChatID      string        // FORWARD_SESSION_INFO_HEADER_CHAT_ID
	JWT         string        // FORWARD_USER_INFO_HEADER_JWT: sent instead of the user's headers where JWTSecret is set
	JWTSecret   string        // FORWARD_USER_INFO_HEADER_JWT_SECRET (HS256)
	JWTLifetime time.Duration // FORWARD_USER_INFO_HEADER_JWT_EXPIRES_SECONDS: 300 s by default
}

// Cookies are the attributes of the session's and the sign-in's cookies.
type Cookies struct {
	SessionSameSite http.SameSite // WEBUI_SESSION_COOKIE_SAME_SITE: lax by default
	SessionSecure   bool          // WEBUI_SESSION_COOKIE_SECURE
	AuthSameSite    http.SameSite // WEBUI_AUTH_COOKIE_SAME_SITE; the session's by default
	AuthSecure      bool          // WEBUI_AUTH_COOKIE_SECURE; the session's by default
}

// Trusted are the request headers in which a proxy says who the user is; "" means that none is looked at.
type Trusted struct {
	Email  string // WEBUI_AUTH_TRUSTED_EMAIL_HEADER
	Name   string // WEBUI_AUTH_TRUSTED_NAME_HEADER
	Groups string // WEBUI_AUTH_TRUSTED_GROUPS_HEADER
	Role   string // WEBUI_AUTH_TRUSTED_ROLE_HEADER
}

// Password is what passwords must be like, and how they are hashed.
type Password struct {
	Validate bool             // ENABLE_PASSWORD_VALIDATION
	Pattern  *PasswordPattern // PASSWORD_VALIDATION_REGEX_PATTERN
	Hint     string           // PASSWORD_VALIDATION_HINT
	Hash     string           // PASSWORD_HASH_ALGORITHM: bcrypt by default
}

// Admin is the account that the start makes where there is none yet; Email or Password "" makes none.
type Admin struct {
	Email    string // WEBUI_ADMIN_EMAIL
	Password string // WEBUI_ADMIN_PASSWORD
	Name     string // WEBUI_ADMIN_NAME: Admin by default
}

// OAuth is what of the sign-in with OpenID Connect stays the same at run time.
type OAuth struct {
	ClientInfoKey      string         // OAUTH_CLIENT_INFO_ENCRYPTION_KEY; SecretKey by default
	SessionTokenKey    string         // OAUTH_SESSION_TOKEN_ENCRYPTION_KEY; SecretKey by default
	EmailFallback      bool           // ENABLE_OAUTH_EMAIL_FALLBACK
	IDTokenCookie      bool           // ENABLE_OAUTH_ID_TOKEN_COOKIE
	MaxSessions        int            // OAUTH_MAX_SESSIONS_PER_USER: per provider, 10 by default
	TokenExchange      bool           // ENABLE_OAUTH_TOKEN_EXCHANGE
	ExchangeLimit      int            // OAUTH_TOKEN_EXCHANGE_RATE_LIMIT; 0 (also "none") means any number
	ExchangeWindow     time.Duration  // OAUTH_TOKEN_EXCHANGE_RATE_LIMIT_WINDOW: 180 s by default
	ExchangeClients    []string       // OAUTH_TOKEN_EXCHANGE_TRUSTED_CLIENT_IDS
	BackchannelLogout  bool           // ENABLE_OAUTH_BACKCHANNEL_LOGOUT
	GroupsSeparator    string         // OAUTH_GROUPS_SEPARATOR: ";" by default
	RolesSeparator     string         // OAUTH_ROLES_SEPARATOR: "," by default
	IncludeClientID    bool           // OAUTH_ACCESS_TOKEN_REQUEST_INCLUDE_CLIENT_ID
	VerifiedEmail      bool           // GALLEY_OAUTH_VERIFIED_EMAIL: link accounts only to addresses that the provider has verified; off, as in the reference
	AuthorizeParams    map[string]any // OAUTH_AUTHORIZE_PARAMS, a JSON object
	GoogleAuthorizeAdd map[string]any // GOOGLE_OAUTH_AUTHORIZE_PARAMS, a JSON object
}

// SCIM is the provisioning interface.
type SCIM struct {
	Enabled  bool   // ENABLE_SCIM or SCIM_ENABLED
	Token    string // SCIM_TOKEN
	Provider string // SCIM_AUTH_PROVIDER
}

// Storage is where uploaded files are.
type Storage struct {
	Provider   string // STORAGE_PROVIDER: local by default
	LocalCache bool   // STORAGE_LOCAL_CACHE

	S3AccessKeyID     string // S3_ACCESS_KEY_ID
	S3SecretAccessKey string // S3_SECRET_ACCESS_KEY
	S3Region          string // S3_REGION_NAME
	S3Bucket          string // S3_BUCKET_NAME
	S3KeyPrefix       string // S3_KEY_PREFIX
	S3Endpoint        string // S3_ENDPOINT_URL
	S3Accelerate      bool   // S3_USE_ACCELERATE_ENDPOINT
	S3Addressing      string // S3_ADDRESSING_STYLE: path, virtual or auto
	S3Tagging         bool   // S3_ENABLE_TAGGING
}

// Audit is the log of who changed what.
type Audit struct {
	Level        string   // AUDIT_LOG_LEVEL: NONE (the default), METADATA, REQUEST or REQUEST_RESPONSE
	Stdout       bool     // ENABLE_AUDIT_STDOUT
	ToFile       bool     // ENABLE_AUDIT_LOGS_FILE
	File         string   // AUDIT_LOGS_FILE_PATH; Finish takes DataDir/audit.log for ""
	RotationSize int64    // AUDIT_LOG_FILE_ROTATION_SIZE: bytes, also as 10MB, which is the default
	MaxBody      int      // MAX_BODY_LOG_SIZE: bytes, 2048 by default
	Excluded     []string // AUDIT_EXCLUDED_PATHS, without leading slashes
	Included     []string // AUDIT_INCLUDED_PATHS: where there are any, only these
	GetRequests  bool     // ENABLE_AUDIT_GET_REQUESTS
}

// Chat is how answers are made and sent.
type Chat struct {
	RealtimeSave    bool     // ENABLE_REALTIME_CHAT_SAVE
	QueriesCache    bool     // ENABLE_QUERIES_CACHE
	RAGInSystem     bool     // RAG_SYSTEM_CONTEXT: sources go into the system message
	SourceMetadata  []string // RAG_SOURCE_METADATA_KEYS
	ModelFallback   bool     // ENABLE_CUSTOM_MODEL_FALLBACK
	ImageURLs       bool     // ENABLE_CHAT_RESPONSE_BASE64_IMAGE_URL_CONVERSION
	APIOutlets      bool     // ENABLE_API_OUTLET_FILTERS
	DeltaChunk      int      // CHAT_RESPONSE_STREAM_DELTA_CHUNK_SIZE: deltas sent as one, 1 by default
	MaxToolCalls    int      // CHAT_RESPONSE_MAX_TOOL_CALL_ITERATIONS or …_RETRIES: 256 by default; -1 means any number
	StatefulAPI     bool     // ENABLE_RESPONSES_API_STATEFUL
	MaxStreamBuffer int      // CHAT_STREAM_RESPONSE_CHUNK_MAX_BUFFER_SIZE: bytes; 0 means any number
	KnowledgeExec   bool     // ENABLE_KB_EXEC
	ExecMaxOutput   int      // KB_EXEC_MAX_OUTPUT_CHARS
	ExecMaxFiles    int      // KB_EXEC_MAX_GREP_FILES
	GrepMaxMatches  int      // KNOWLEDGE_GREP_MAX_MATCHES
	ViewMaxChars    int      // VIEW_FILE_MAX_CHARS
	ViewChars       int      // VIEW_FILE_DEFAULT_MAX_CHARS
	SearchMaxChars  int      // RAG_FILE_CONTENT_SEARCH_MAX_CHARS
	KeepFiles       bool     // ENABLE_KNOWLEDGE_FILE_RETENTION
}

// Schedule is how often the server looks for things that are due.
type Schedule struct {
	Automations time.Duration // SCHEDULER_POLL_INTERVAL or AUTOMATION_POLL_INTERVAL: 10 s by default
	Timers      time.Duration // TIMER_POLL_INTERVAL: 1 s by default
	AlertAhead  time.Duration // CALENDAR_ALERT_LOOKAHEAD_MINUTES: 10 min by default
}

// Embedding is what is sent to embedding models besides a text. The models themselves are settings (rag.embedding_…).
type Embedding struct {
	QueryPrefix   string // RAG_EMBEDDING_QUERY_PREFIX: before texts that are looked for
	ContentPrefix string // RAG_EMBEDDING_CONTENT_PREFIX: before texts that are to be found
	PrefixField   string // RAG_EMBEDDING_PREFIX_FIELD_NAME: the member of requests that has the prefix; "" puts it before each text
}

// ProfileImages are the pictures of users and models.
type ProfileImages struct {
	ForwardURLs bool     // ENABLE_PROFILE_IMAGE_URL_FORWARDING
	MIMETypes   []string // PROFILE_IMAGE_ALLOWED_MIME_TYPES
	MaxDataURI  int      // PROFILE_IMAGE_MAX_DATA_URI_SIZE: bytes; 0 means any number
}
