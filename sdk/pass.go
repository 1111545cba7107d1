package sdk

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// DepthKey is the gRPC metadata in which Galley says how deep a call is nested in others by way of plugins that ask
// models. A plugin passes it on, as it is, in the calls of [Host] that it makes meanwhile; Galley ends what goes too deep.
const DepthKey = "galley-depth"

// passOn gives a call to the host the depth and the trace of the call in which it is made.
func passOn(ctx context.Context) context.Context {
	md, ok := metadata.FromOutgoingContext(ctx)
	if md = md.Copy(); !ok {
		md = metadata.MD{}
	}
	if in, ok := metadata.FromIncomingContext(ctx); ok {
		for _, key := range []string{DepthKey, "x-request-id"} {
			if v := in.Get(key); len(v) > 0 {
				md.Set(key, v...)
			}
		}
	}
	propagation.TraceContext{}.Inject(ctx, carrier(md))
	return metadata.NewOutgoingContext(ctx, md)
}

func passUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(passOn(ctx), method, req, reply, cc, opts...)
}

func passStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(passOn(ctx), desc, cc, method, opts...)
}
