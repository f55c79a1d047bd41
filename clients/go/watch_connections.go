package perdure

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Watches use connections of their own. A server accepts a limited number of streams per connection (256 by default). On
// a connection that is full of watches, every further call waits until a watch ends.

const (
	// watchesPerConnection is the maximum number of watches on one connection. Proxies and servers commonly accept 100
	// to 128 streams.
	watchesPerConnection = 100
	// idleConnectionsMax is the maximum number of connections without a watch that are kept for the next one.
	idleConnectionsMax = 1
	// watchIdleTimeout is the time after which an unused watch connection disconnects.
	watchIdleTimeout = 30 * time.Second
)

type watchConnection struct {
	connection *grpc.ClientConn
	watches    int
}

// watchConnections holds the watch connections of one client. It is safe for concurrent use.
type watchConnections struct {
	connect func() (*grpc.ClientConn, error)

	mutex  sync.Mutex
	open   []*watchConnection
	closed bool
}

// acquire returns a connection with room for one more watch, and opens one if all are full. Pass it to release.
func (w *watchConnections) acquire() (*watchConnection, error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.closed {
		return nil, &Error{Code: codes.Canceled, Message: "the client is closed"}
	}
	// Take the first with room, so that the later ones become empty and can be closed.
	for _, found := range w.open {
		if found.watches < watchesPerConnection {
			found.watches++
			return found, nil
		}
	}
	connection, err := w.connect()
	if err != nil {
		return nil, err
	}
	opened := &watchConnection{connection: connection, watches: 1}
	w.open = append(w.open, opened)
	return opened, nil
}

// release frees the place of a watch, and closes the connection if too many are unused.
func (w *watchConnections) release(used *watchConnection) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	used.watches--
	if w.closed || used.watches > 0 {
		return
	}
	unused, place := 0, -1
	for index, found := range w.open {
		if found.watches == 0 {
			unused++
		}
		if found == used {
			place = index
		}
	}
	if unused > idleConnectionsMax {
		w.open = append(w.open[:place:place], w.open[place+1:]...)
		_ = used.connection.Close()
	}
}

// close ends every watch and rejects new ones.
func (w *watchConnections) close() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.closed = true
	for _, found := range w.open {
		_ = found.connection.Close()
	}
	w.open = nil
}

// counts returns the number of watches on each open connection.
func (w *watchConnections) counts() []int {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return each(w.open, func(found *watchConnection) int { return found.watches })
}
