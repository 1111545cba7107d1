package obs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// pushTimeout bounds one export, as OTLP exporters do by default.
const pushTimeout = 10 * time.Second

// sendMetrics delivers one export request.
type sendMetrics func(context.Context, *colmetrics.ExportMetricsServiceRequest) error

// startPush starts exporting the registry over OTLP if that is on. It reads
// the same series a scrape shows, so there is no second set of instruments.
func (o *Obs) startPush(c Config, version string) error {
	if !c.MetricsPush.Enabled {
		return nil
	}
	send, closeConn, err := metricsSender(c.MetricsPush)
	if err != nil {
		return err
	}
	res, err := newResource(c, version)
	if err != nil {
		return errors.Join(err, closeConn())
	}
	conv := newConverter(res, time.Now())
	push := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, pushTimeout)
		defer cancel()
		families, err := o.Metrics.reg.Gather()
		if len(families) == 0 && err != nil {
			return fmt.Errorf("obs: gather metrics: %w", err)
		}
		return send(ctx, conv.request(families, time.Now()))
	}
	interval := c.MetricsInterval
	if interval <= 0 {
		interval = 10 * time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.pushLoop(ctx, interval, push)
	}()
	o.stop = append(o.stop, func(ctx context.Context) error {
		cancel()
		<-done // quick: the push under way ends with its context
		err := push(ctx)
		if err != nil {
			err = fmt.Errorf("obs: flush metrics: %w", err)
		}
		return errors.Join(err, closeConn())
	})
	return nil
}

func (o *Obs) pushLoop(ctx context.Context, every time.Duration, push func(context.Context) error) {
	report := o.reporter(signalMetrics)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := push(ctx); err != nil && ctx.Err() == nil {
				report(err)
			}
		}
	}
}

func metricsSender(c OTLP) (sendMetrics, func() error, error) {
	target, err := c.target("/v1/metrics")
	if err != nil {
		return nil, nil, err
	}
	if c.Protocol == ProtocolHTTP {
		client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
		closeIdle := func() error { client.CloseIdleConnections(); return nil }
		return httpSender(client, target, c.headers()), closeIdle, nil
	}
	return grpcSender(c)
}

func httpSender(client *http.Client, target string, headers map[string]string) sendMetrics {
	return func(ctx context.Context, msg *colmetrics.ExportMetricsServiceRequest) error {
		body, err := proto.Marshal(msg)
		if err != nil {
			return fmt.Errorf("obs: encode metrics: %w", err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("obs: push metrics: %w", err)
		}
		req.Header.Set("Content-Type", "application/x-protobuf")
		for k, v := range headers {
			req.Header.Set(k, v)
		}
		res, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("obs: push metrics: %w", err)
		}
		defer res.Body.Close()
		// Read what little there is, so that the connection can be kept.
		_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
		if res.StatusCode/100 != 2 {
			return fmt.Errorf("obs: push metrics: collector answered %s", res.Status)
		}
		return nil
	}
}

func grpcSender(c OTLP) (sendMetrics, func() error, error) {
	scheme, u, err := splitEndpoint(c.Endpoint)
	if err != nil {
		return nil, nil, err
	}
	creds := credentials.NewTLS(nil)
	if c.Insecure && scheme != "https" {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, nil, fmt.Errorf("obs: metrics exporter: %w", err)
	}
	client := colmetrics.NewMetricsServiceClient(conn)
	md := metadata.New(c.headers())
	send := func(ctx context.Context, msg *colmetrics.ExportMetricsServiceRequest) error {
		if _, err := client.Export(metadata.NewOutgoingContext(ctx, md), msg); err != nil {
			return fmt.Errorf("obs: push metrics: %w", err)
		}
		return nil
	}
	return send, conn.Close, nil
}
