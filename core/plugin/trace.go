package plugin

import (
	"context"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/sdk"
)

var propagator = propagation.TraceContext{}

// injectTrace adds the trace context to the header of a request.
func injectTrace(ctx context.Context, h http.Header) {
	propagator.Inject(ctx, propagation.HeaderCarrier(h))
}

// metadataCarrier has OpenTelemetry read and write gRPC metadata.
type metadataCarrier metadata.MD

func (c metadataCarrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c metadataCarrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c metadataCarrier) Keys() []string        { return nil }

// traced adds trace context, request id and depth to the metadata of a call.
func traced(ctx context.Context) context.Context {
	md := metadata.MD{}
	propagator.Inject(ctx, metadataCarrier(md))
	if id := web.RequestID(ctx); id != "" {
		md.Set("x-request-id", id)
	}
	if n := depthOf(ctx); n > 0 {
		md.Set(sdk.DepthKey, strconv.Itoa(n))
	}
	if len(md) == 0 {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, md)
}

func traceUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(traced(ctx), method, req, reply, cc, opts...)
}

func traceStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(traced(ctx), desc, cc, method, opts...)
}
