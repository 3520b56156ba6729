// Package boot is the composition root: it reads the configuration, puts the parts
// together and runs them. Only boot reads the environment, and only boot knows every
// other package.
package boot
