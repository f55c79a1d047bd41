package perdure

import (
	"context"
	"time"

	perdurev1 "perdure.dev/go/perdure/v1"
)

// Operations on the server itself.

// The duration of a backup depends on the size of the database.
const backupTimeout = time.Hour

// Backup is a complete, verified backup of a server's database.
type Backup struct {
	// Path is absolute and on the server's machine.
	Path      string
	SizeBytes int64
	// Instances is the number of instances in the backup.
	Instances int64
	// SnapshotTime is when the copy was taken, by the store's clock. The backup contains every write that was
	// acknowledged before.
	SnapshotTime time.Time
}

// BackupDatabase writes a backup of the server's database into the directory that the server was started with, and
// returns once the backup is complete and verified. fileName is at most 128 characters of A-Z a-z 0-9 . _ - and starts
// with a letter or a digit.
//
// The call is sent once, without retries. Without a deadline in ctx, its timeout is one hour. If the call ends early, the
// server removes what is incomplete.
//
// Errors: ErrInvalidField, ErrBackupNotConfigured, ErrBackupAlreadyExists, ErrBackupFailed, ErrOverloaded (a backup is
// already running).
func (c *Client) BackupDatabase(ctx context.Context, fileName string) (*Backup, error) {
	request := &perdurev1.BackupDatabaseRequest{FileName: fileName}
	answer, err := callWith(ctx, c, NoRetries, backupTimeout, c.server.BackupDatabase, request, "")
	if err != nil {
		return nil, err
	}
	return &Backup{
		Path:         answer.GetPath(),
		SizeBytes:    answer.GetSizeBytes(),
		Instances:    answer.GetInstances(),
		SnapshotTime: timeOf(answer.GetSnapshotTime()),
	}, nil
}
