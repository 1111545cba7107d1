// Package pluginv1 is the protocol between Galley and its plugins, generated from plugin.proto. Authors of Go plugins use
// package sdk instead.
package pluginv1

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative plugin.proto
