// Package boot is the composition root: it reads the configuration, connects the parts and runs them. Only boot reads the
// environment, and only boot imports every other package.
package boot
