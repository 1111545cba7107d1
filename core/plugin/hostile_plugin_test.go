package plugin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/galleychat/galley/sdk"
	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

func init() {
	says := func(line string) func() {
		return func() {
			fmt.Println(line)
			time.Sleep(time.Hour)
		}
	}
	testPlugins["silent"] = func() { time.Sleep(time.Hour) }
	testPlugins["stubborn"] = func() {
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	}
	testPlugins["chatty"] = says("Loading models, please wait")
	testPlugins["endless line"] = func() {
		for {
			fmt.Print(strings.Repeat("x", 1<<16))
		}
	}
	testPlugins["other version"] = says("1|99|unix|/nowhere|grpc")
	testPlugins["other core"] = says("7|1|unix|/nowhere|grpc")
	testPlugins["net/rpc"] = says("1|1|unix|/nowhere|netrpc")
	testPlugins["no certificate"] = says("1|1|unix|/nowhere|grpc|" + strings.Repeat("garbage!", 20))
	testPlugins["nowhere"] = says("1|1|unix|/nowhere|grpc")
	testPlugins["closed output"] = func() {
		_ = os.Stdout.Close()
		time.Sleep(time.Hour)
	}
	testPlugins["noise"] = func() {
		path := filepath.Join(os.Getenv(goplugin.EnvUnixSocketDir), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			panic(err)
		}
		fmt.Println("1|1|unix|" + path + "|grpc")
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for {
					if _, err := c.Write(bytes.Repeat([]byte("noise"), 1000)); err != nil {
						return
					}
				}
			}()
		}
	}
	testPlugins["hostile"] = func() {
		signal.Ignore(syscall.SIGTERM)
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig: sdk.Handshake, VersionedPlugins: map[int]goplugin.PluginSet{1: {"plugin": &hostile{}}}, GRPCServer: goplugin.DefaultGRPCServer,
		})
		time.Sleep(time.Hour)
	}
}

// hostile is a plugin of the protocol's bare messages: what it says of itself stands in a variable, and its HTTP server
// answers with bytes.
type hostile struct {
	goplugin.NetRPCUnsupportedPlugin
	pb.UnimplementedLifecycleServer
	pb.UnimplementedLlmServer
}

func (h *hostile) GRPCServer(_ *goplugin.GRPCBroker, r *grpc.Server) error {
	pb.RegisterLifecycleServer(r, h)
	pb.RegisterLlmServer(r, h)
	return nil
}

func (h *hostile) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func (h *hostile) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	switch os.Getenv("HOSTILE") {
	case "fails":
		return nil, status.Error(codes.Internal, "not today")
	case "huge":
		return &pb.DescribeResponse{Id: "hostile", Description: strings.Repeat("x", 80<<20)}, nil
	}
	d := &pb.DescribeResponse{}
	return d, protojson.Unmarshal([]byte(os.Getenv("HOSTILE_DESCRIBE")), d)
}

func (h *hostile) Models(context.Context, *pb.ModelsRequest) (*pb.ModelsResponse, error) {
	return &pb.ModelsResponse{Models: []*pb.Model{
		{}, {Id: "odd", Name: "Odd", Info: []byte(`not json`)}, {Id: "odd"}, {Id: "info", Info: []byte(`{"id":"other","info":{"meta":{"x":1}}}`)},
	}}, nil
}

func (h *hostile) Chat(_ *pb.ChatRequest, out grpc.ServerStreamingServer[pb.ChatResponse]) error {
	return out.Send(&pb.ChatResponse{Chunks: [][]byte{[]byte("no json"), []byte(`{"choices":[]}`), nil, []byte("[1]")}})
}

func (h *hostile) Connect(_ context.Context, req *pb.ConnectRequest) (*pb.ConnectResponse, error) {
	switch os.Getenv("HOSTILE") {
	case "certificate":
		return &pb.ConnectResponse{Certificate: []byte("no certificate")}, nil
	case "address":
		return &pb.ConnectResponse{Certificate: req.GetHostCertificate(), HttpAddress: "tcp:127.0.0.1:1"}, nil
	}
	id, err := newIdentity()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	block, _ := pem.Decode(req.GetHostCertificate())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	pool.AddCert(cert)
	path := filepath.Join(os.Getenv(goplugin.EnvUnixSocketDir), "h")
	l, err := tls.Listen("unix", path, &tls.Config{Certificates: []tls.Certificate{id.cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerBytes(c)
		}
	}()
	return &pb.ConnectResponse{Certificate: id.pem, HttpAddress: "unix:" + path}, nil
}

// answerBytes answers each request with what its path asks for.
func answerBytes(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		write := func(text string) bool {
			_, err := c.Write([]byte(text))
			return err == nil
		}
		switch r.URL.Path {
		case "/garbage":
			write("\x00\x01\x02 not HTTP at all\r\n\r\n")
		case "/close":
		case "/big":
			write("HTTP/1.1 200 OK\r\nX-Big: " + strings.Repeat("x", 10<<20) + "\r\n\r\n")
		case "/endless":
			write("HTTP/1.1 200 OK\r\n")
			for i := 0; write(fmt.Sprintf("X-%d: y\r\n", i)); i++ {
			}
		case "/drip":
			for i := 0; write(fmt.Sprintf("HTTP/1.1 103 Early Hints\r\nLink: %d\r\n\r\n", i)); i++ {
				pause(context.Background())
			}
		case "/short":
			write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
		case "/status":
			write("HTTP/1.1 20 OK\r\n\r\n")
		case "/switch":
			write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: nonsense\r\n\r\n")
		case "/chunk":
			write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6400000\r\n")
			part := strings.Repeat("x", 1<<20)
			for range 100 {
				write(part)
			}
			write("\r\n0\r\n\r\n")
		case "/badchunk":
			write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
		case "/ok":
			if !write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Odd: a\tb\r\nConnection: X-Odd\r\nAccess-Control-Allow-Origin: *\r\n\r\nok") {
				return
			}
			continue
		case "/twice":
			write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
			pause(context.Background())
		}
		return
	}
}
