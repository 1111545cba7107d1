package plugin

import (
	"context"
	"net/http"
	"slices"

	"google.golang.org/grpc"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// hostModels implements asking models.
type hostModels struct {
	pb.UnimplementedHostModelsServer
	models ModelService
	plugin string // who asks
}

// optionalUser checks the id of a user that may be left out.
func optionalUser(id string) error {
	if id == "" {
		return nil
	}
	return checkID("user_id", id)
}

// List implements pb.HostModelsServer.
func (s *hostModels) List(ctx context.Context, req *pb.HostModelsRequest) (*pb.ModelsResponse, error) {
	if err := optionalUser(req.GetUserId()); err != nil {
		return nil, err
	}
	list, err := s.models.List(ctx, req.GetUserId())
	if err != nil {
		return nil, err
	}
	return &pb.ModelsResponse{Models: list}, nil
}

// deeper is the context of a call to a model that a plugin makes, unless it is nested too deep.
func deeper(ctx context.Context) (context.Context, error) {
	n := toldDepth(ctx)
	if n >= maxDepth {
		return nil, sdk.Refuse(http.StatusLoopDetected,
			"Models are asked by way of plugins more than four calls deep: a plugin seems to ask for its own model, or to be a filter of what it asks")
	}
	return withDepth(ctx, n+1), nil
}

const (
	// maxBatch is how many bytes of chunks go into one message at most, but for single chunks that are larger.
	maxBatch = 256 << 10
	// maxInputs bounds the texts of one request for embeddings.
	maxInputs = 10_000
)

// Chat implements pb.HostModelsServer.
func (s *hostModels) Chat(req *pb.HostChatRequest, out grpc.ServerStreamingServer[pb.ChatResponse]) error {
	if err := optionalUser(req.GetUserId()); err != nil {
		return err
	}
	body, bad := jsondoc.Check(req.GetBody())
	switch {
	case bad != nil:
		return invalid("body is no JSON: %s", bad.Msg)
	case body.Kind() != '{':
		return invalid("body is not a JSON object")
	case body.Text("model") == "":
		return invalid("body names no model")
	}
	ctx, err := deeper(out.Context())
	if err != nil {
		return err
	}
	ctx = context.WithValue(ctx, askerKey{}, s.plugin)
	resp, err := s.models.Chat(ctx, req.GetUserId(), body)
	if err != nil {
		return err
	}
	return sendChunks(resp, out)
}

// sendChunks passes an answer on; chunks that are there together go together. It closes the answer.
func sendChunks(resp *llm.Response, out grpc.ServerStreamingServer[pb.ChatResponse]) error {
	var batch [][]byte
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := out.Send(&pb.ChatResponse{Chunks: batch})
		batch, size = batch[:0], 0
		return err
	}
	for c, err := range resp.Chunks() {
		if err != nil {
			_ = flush() // if the plugin is gone the error below is for nobody
			return err
		}
		if c.Error != nil {
			_ = flush()
			return llm.NewUpstreamError(http.StatusBadGateway, http.Header{"Content-Type": {"application/json"}}, slices.Clone(c.Raw), false)
		}
		batch, size = append(batch, slices.Clone(c.Raw)), size+len(c.Raw)
		if c.More && size < maxBatch {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return flush()
}

// Embed implements pb.HostModelsServer.
func (s *hostModels) Embed(ctx context.Context, req *pb.EmbedRequest) (*pb.EmbedResponse, error) {
	user := req.GetMeta().GetCaller().GetId()
	if err := optionalUser(user); err != nil {
		return nil, err
	}
	if req.GetModel() == "" {
		return nil, invalid("model is missing")
	}
	if len(req.GetInput()) == 0 || len(req.GetInput()) > maxInputs {
		return nil, invalid("input has not from 1 to %d texts", maxInputs)
	}
	ctx, err := deeper(ctx)
	if err != nil {
		return nil, err
	}
	return s.models.Embed(ctx, user, req.GetModel(), req.GetInput())
}
