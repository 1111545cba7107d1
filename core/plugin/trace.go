package plugin

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/galleychat/galley/core/web"
)

var propagator = propagation.TraceContext{}

// injectTrace adds the trace context to the header of a request.
func injectTrace(ctx context.Context, h http.Header) {
	propagator.Inject(ctx, propagation.HeaderCarrier(h))
}

// metadataCarrier has OpenTelemetry write gRPC metadata.
type metadataCarrier metadata.MD

func (c metadataCarrier) Get(string) string     { return "" }
func (c metadataCarrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c metadataCarrier) Keys() []string        { return nil }

// traced adds trace context and request id to the metadata of a call.
func traced(ctx context.Context) context.Context {
	md := metadata.MD{}
	propagator.Inject(ctx, metadataCarrier(md))
	if id := web.RequestID(ctx); id != "" {
		md.Set("x-request-id", id)
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
