// Package pytools is tools that are Python source, which people edit in the web interface: their code runs in the process of
// pyhost. It brings together what is stored of them (core/store/tools), their valves, and who may use which, for the API
// and for chats.
package pytools
