package pluginv1

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

var update = flag.Bool("update", false, "rewrite testdata/protocol.txt")

const frozenFile = "testdata/protocol.txt"

// describe says all of a protocol that its peers rely on, a line each: the key, and what it must stay.
func describe(f protoreflect.FileDescriptor) map[string]string {
	out := map[string]string{"package": string(f.Package())}
	enums(out, f.Enums())
	messages(out, f.Messages())
	for i := range f.Services().Len() {
		s := f.Services().Get(i)
		out["service "+string(s.Name())] = "present"
		for j := range s.Methods().Len() {
			m := s.Methods().Get(j)
			out[fmt.Sprintf("rpc %s.%s", s.Name(), m.Name())] = fmt.Sprintf("%s%s returns %s%s", streamed(m.IsStreamingClient()), m.Input().FullName(), streamed(m.IsStreamingServer()), m.Output().FullName())
		}
	}
	return out
}

func streamed(yes bool) string {
	if yes {
		return "stream "
	}
	return ""
}

func enums(out map[string]string, list protoreflect.EnumDescriptors) {
	for i := range list.Len() {
		e := list.Get(i)
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			out[fmt.Sprintf("enum %s %d", e.FullName(), v.Number())] = string(v.Name())
		}
	}
}

func messages(out map[string]string, list protoreflect.MessageDescriptors) {
	for i := range list.Len() {
		m := list.Get(i)
		out["message "+string(m.FullName())] = "present"
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			out[fmt.Sprintf("field %s %d", m.FullName(), f.Number())] = field(f)
		}
		enums(out, m.Enums())
		messages(out, m.Messages())
	}
}

func field(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	switch {
	case f.IsMap():
		kind = "map"
	case f.Message() != nil:
		kind = string(f.Message().FullName())
	case f.Enum() != nil:
		kind = string(f.Enum().FullName())
	}
	text := fmt.Sprintf("%s %s %s", f.Cardinality(), kind, f.Name())
	if o := f.ContainingOneof(); o != nil {
		text += " of " + string(o.Name())
	}
	return text
}

// broken says what of a frozen protocol is no longer so. What is new is fine.
func broken(frozen, now map[string]string) (wrong []string) {
	for _, key := range slices.Sorted(maps.Keys(frozen)) {
		switch is, ok := now[key]; {
		case !ok:
			wrong = append(wrong, key+" is gone")
		case is != frozen[key]:
			wrong = append(wrong, fmt.Sprintf("%s was %q and is %q", key, frozen[key], is))
		}
	}
	return wrong
}

// TestProtocolIsFrozen keeps plugins of older releases working. Additions become part of what is kept with
// go test -run Frozen -update, which a release does.
func TestProtocolIsFrozen(t *testing.T) {
	now := describe(File_plugin_proto)
	if *update {
		var b strings.Builder
		for _, key := range slices.Sorted(maps.Keys(now)) {
			fmt.Fprintf(&b, "%s: %s\n", key, now[key])
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(frozenFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(frozenFile)
	if err != nil {
		t.Fatal(err)
	}
	frozen := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			t.Fatalf("%s: %q", frozenFile, line)
		}
		frozen[key] = value
	}
	if len(frozen) < 200 {
		t.Errorf("only %d lines are frozen", len(frozen))
	}
	for _, w := range broken(frozen, now) {
		t.Errorf("older plugins break: %s", w)
	}
}

func TestBreakingChangesAreSeen(t *testing.T) {
	find := func(f *descriptorpb.FileDescriptorProto, name string) *descriptorpb.DescriptorProto {
		i := slices.IndexFunc(f.MessageType, func(m *descriptorpb.DescriptorProto) bool { return m.GetName() == name })
		return f.MessageType[i]
	}
	for name, c := range map[string]struct {
		change func(*descriptorpb.FileDescriptorProto)
		want   string // in one of the complaints; "" for none
	}{
		"nothing": {func(*descriptorpb.FileDescriptorProto) {}, ""},
		"a field more": {func(f *descriptorpb.FileDescriptorProto) {
			m := find(f, "Caller")
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{Name: new("more"), Number: new(int32(99)), Label: m.Field[0].Label, Type: m.Field[0].Type})
		}, ""},
		"a field less":   {func(f *descriptorpb.FileDescriptorProto) { m := find(f, "Caller"); m.Field = m.Field[1:] }, "field plugin.v1.Caller 1 is gone"},
		"another number": {func(f *descriptorpb.FileDescriptorProto) { find(f, "Caller").Field[0].Number = new(int32(99)) }, "field plugin.v1.Caller 1 is gone"},
		"another name":   {func(f *descriptorpb.FileDescriptorProto) { find(f, "Caller").Field[0].Name = new("uid") }, `field plugin.v1.Caller 1 was "optional string id" and is "optional string uid"`},
		"another type": {func(f *descriptorpb.FileDescriptorProto) {
			find(f, "Caller").Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		}, "optional bytes id"},
		"a list": {func(f *descriptorpb.FileDescriptorProto) {
			find(f, "Caller").Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}, "repeated string id"},
		"out of the oneof": {func(f *descriptorpb.FileDescriptorProto) { m := find(f, "CallResponse"); m.Field[0].OneofIndex = nil }, `of item" and is`},
		"an enum's value":  {func(f *descriptorpb.FileDescriptorProto) { f.EnumType[0].Value[1].Name = new("ACCESS_ALL") }, "ACCESS_PUBLIC"},
		"a method less":    {func(f *descriptorpb.FileDescriptorProto) { f.Service[0].Method = f.Service[0].Method[1:] }, "rpc Lifecycle.Describe is gone"},
		"no stream":        {func(f *descriptorpb.FileDescriptorProto) { f.Service[1].Method[1].ServerStreaming = nil }, "rpc Llm.Chat was"},
		"a service less":   {func(f *descriptorpb.FileDescriptorProto) { f.Service = f.Service[1:] }, "service Lifecycle is gone"},
		"another package":  {func(f *descriptorpb.FileDescriptorProto) { renamePackage(f) }, "package was"},
	} {
		p := protodesc.ToFileDescriptorProto(File_plugin_proto)
		c.change(p)
		f, err := protodesc.NewFile(p, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wrong := strings.Join(broken(describe(File_plugin_proto), describe(f)), "\n")
		if (c.want == "") != (wrong == "") || !strings.Contains(wrong, c.want) {
			t.Errorf("%s: %q", name, wrong)
		}
	}
}

// renamePackage moves a file to another package, with the references in it.
func renamePackage(f *descriptorpb.FileDescriptorProto) {
	f.Package = new("plugin.v2")
	move := func(name *string) *string {
		if name == nil {
			return nil
		}
		return new(strings.Replace(*name, ".plugin.v1.", ".plugin.v2.", 1))
	}
	var all func(list []*descriptorpb.DescriptorProto)
	all = func(list []*descriptorpb.DescriptorProto) {
		for _, m := range list {
			for _, field := range m.Field {
				field.TypeName = move(field.TypeName)
			}
			all(m.NestedType)
		}
	}
	all(f.MessageType)
	for _, s := range f.Service {
		for _, m := range s.Method {
			m.InputType, m.OutputType = move(m.InputType), move(m.OutputType)
		}
	}
}
