package plugin

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/galleychat/galley/core/store"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

const (
	defaultKVPage = 100
	maxKVPage     = 1000
	// maxKVPageBytes has a page fit into the 4 MiB that gRPC takes by default.
	maxKVPageBytes = 4<<20 - 64<<10
)

// hostKV implements the store of a plugin's own.
type hostKV struct {
	pb.UnimplementedHostKvServer
	h *hostServer
}

// ttl reads a time to live in milliseconds.
func ttl(ms int64) (time.Duration, error) {
	if ms < 0 {
		return 0, invalid("ttl_ms is negative")
	}
	return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond, nil
}

func expiryOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Get implements pb.HostKvServer.
func (s *hostKV) Get(ctx context.Context, req *pb.KvGetRequest) (*pb.KvEntry, error) {
	e, err := s.h.kv.Get(ctx, s.h.id, req.GetKey())
	if err != nil {
		return nil, err
	}
	return &pb.KvEntry{Key: e.Key, Value: e.Value, Version: e.Version, ExpiresAt: expiryOf(e.Expires)}, nil
}

// Put implements pb.HostKvServer.
func (s *hostKV) Put(ctx context.Context, req *pb.KvPutRequest) (*pb.KvVersion, error) {
	life, err := ttl(req.GetTtlMs())
	if err != nil {
		return nil, err
	}
	v, err := s.h.kv.Put(ctx, s.h.id, req.GetKey(), req.GetValue(), life)
	return &pb.KvVersion{Version: v}, err
}

// CompareAndSet implements pb.HostKvServer.
func (s *hostKV) CompareAndSet(ctx context.Context, req *pb.KvCompareAndSetRequest) (*pb.KvVersion, error) {
	life, err := ttl(req.GetTtlMs())
	if err != nil {
		return nil, err
	}
	v, err := s.h.kv.CompareAndSet(ctx, s.h.id, req.GetKey(), req.GetValue(), req.GetVersion(), life)
	return &pb.KvVersion{Version: v}, err
}

// Add implements pb.HostKvServer.
func (s *hostKV) Add(ctx context.Context, req *pb.KvAddRequest) (*pb.KvCounter, error) {
	life, err := ttl(req.GetTtlMs())
	if err != nil {
		return nil, err
	}
	sum, expires, err := s.h.kv.Add(ctx, s.h.id, req.GetKey(), req.GetDelta(), life)
	return &pb.KvCounter{Value: sum, ExpiresAt: expiryOf(expires)}, err
}

// Delete implements pb.HostKvServer.
func (s *hostKV) Delete(ctx context.Context, req *pb.KvDeleteRequest) (*pb.KvDeleteResponse, error) {
	err := s.h.kv.Delete(ctx, s.h.id, req.GetKey())
	if errors.Is(err, store.ErrNotFound) {
		return &pb.KvDeleteResponse{}, nil
	}
	return &pb.KvDeleteResponse{Deleted: err == nil}, err
}

// List implements pb.HostKvServer.
func (s *hostKV) List(ctx context.Context, req *pb.KvListRequest) (*pb.KvListResponse, error) {
	limit := orDefault(int(req.GetLimit()), defaultKVPage)
	if limit < 0 || limit > maxKVPage {
		return nil, invalid("limit is not from 0 to %d", maxKVPage)
	}
	page, more, err := s.h.kv.List(ctx, s.h.id, req.GetPrefix(), req.GetAfter(), limit, maxKVPageBytes)
	if err != nil {
		return nil, err
	}
	resp := &pb.KvListResponse{Entries: make([]*pb.KvEntry, len(page)), More: more}
	for i, e := range page {
		resp.Entries[i] = &pb.KvEntry{Key: e.Key, Value: e.Value, Version: e.Version, ExpiresAt: expiryOf(e.Expires)}
	}
	return resp, nil
}
