package plugintest

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// kvStore is the keys and values, guarded by the host's lock.
type kvStore struct {
	entries map[string]kvEntry
	version int64
	quota   int64
	ahead   time.Duration // of the clock
}

type kvEntry struct {
	value   []byte
	version int64
	expires int64 // Unix milliseconds; 0 means never
}

func (s *kvStore) now() int64 { return time.Now().Add(s.ahead).UnixMilli() }

func (s *kvStore) find(key string) (kvEntry, bool) {
	e, ok := s.entries[key]
	if ok && e.expires > 0 && e.expires <= s.now() {
		delete(s.entries, key)
		return kvEntry{}, false
	}
	return e, ok
}

func (s *kvStore) set(key string, value []byte, expires int64) (int64, error) {
	if err := validKey(key); err != nil {
		return 0, err
	}
	if len(value) > 1<<20 {
		return 0, status.Error(codes.InvalidArgument, "the value is larger than 1 MiB")
	}
	used := int64(len(key) + len(value))
	for k := range s.entries {
		if e, ok := s.find(k); ok && k != key {
			used += int64(len(k) + len(e.value))
		}
	}
	if used > s.quota {
		return 0, status.Error(codes.ResourceExhausted, "the quota is used up")
	}
	s.version++
	s.entries[key] = kvEntry{value, s.version, expires}
	return s.version, nil
}

func (s *kvStore) expiry(ttlMs int64) int64 {
	if ttlMs <= 0 {
		return 0
	}
	return s.now() + ttlMs
}

func validKey(key string) error {
	if key == "" || len(key) > 512 || !utf8.ValidString(key) {
		return status.Error(codes.InvalidArgument, "keys have 1 to 512 bytes of UTF-8")
	}
	return nil
}

type kvService struct {
	pb.UnimplementedHostKvServer
	f *fakeHost
}

// open locks the store.
func (k *kvService) open() (*kvStore, func()) {
	k.f.mu.Lock()
	return &k.f.kv, k.f.mu.Unlock
}

func (k *kvService) Get(_ context.Context, req *pb.KvGetRequest) (*pb.KvEntry, error) {
	s, done := k.open()
	defer done()
	e, ok := s.find(req.GetKey())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no key %q", req.GetKey())
	}
	return &pb.KvEntry{Key: req.GetKey(), Value: e.value, Version: e.version, ExpiresAt: e.expires}, nil
}

func (k *kvService) Put(_ context.Context, req *pb.KvPutRequest) (*pb.KvVersion, error) {
	s, done := k.open()
	defer done()
	v, err := s.set(req.GetKey(), req.GetValue(), s.expiry(req.GetTtlMs()))
	return &pb.KvVersion{Version: v}, err
}

func (k *kvService) CompareAndSet(_ context.Context, req *pb.KvCompareAndSetRequest) (*pb.KvVersion, error) {
	s, done := k.open()
	defer done()
	if e, _ := s.find(req.GetKey()); e.version != req.GetVersion() {
		return nil, status.Error(codes.Aborted, "the entry has another version")
	}
	v, err := s.set(req.GetKey(), req.GetValue(), s.expiry(req.GetTtlMs()))
	return &pb.KvVersion{Version: v}, err
}

func (k *kvService) Add(_ context.Context, req *pb.KvAddRequest) (*pb.KvCounter, error) {
	s, done := k.open()
	defer done()
	e, ok := s.find(req.GetKey())
	n, expires := int64(0), s.expiry(req.GetTtlMs())
	if ok {
		var err error
		if n, err = strconv.ParseInt(string(e.value), 10, 64); err != nil {
			return nil, status.Error(codes.FailedPrecondition, "the value is no counter")
		}
		expires = e.expires
	}
	n += req.GetDelta()
	if _, err := s.set(req.GetKey(), strconv.AppendInt(nil, n, 10), expires); err != nil {
		return nil, err
	}
	return &pb.KvCounter{Value: n, ExpiresAt: expires}, nil
}

func (k *kvService) Delete(_ context.Context, req *pb.KvDeleteRequest) (*pb.KvDeleteResponse, error) {
	s, done := k.open()
	defer done()
	_, ok := s.find(req.GetKey())
	delete(s.entries, req.GetKey())
	return &pb.KvDeleteResponse{Deleted: ok}, nil
}

func (k *kvService) List(_ context.Context, req *pb.KvListRequest) (*pb.KvListResponse, error) {
	s, done := k.open()
	defer done()
	limit := int(req.GetLimit())
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	out := &pb.KvListResponse{}
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		e, ok := s.find(key)
		if !ok || !strings.HasPrefix(key, req.GetPrefix()) || key <= req.GetAfter() {
			continue
		}
		if len(out.Entries) == limit {
			out.More = true
			break
		}
		out.Entries = append(out.Entries, &pb.KvEntry{Key: key, Value: e.value, Version: e.version, ExpiresAt: e.expires})
	}
	return out, nil
}
