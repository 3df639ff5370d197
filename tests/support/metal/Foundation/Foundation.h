// Declarations of Apple's Foundation that generated Objective-C++ uses, so that clang++ parses it
// on any machine. Nothing here can be linked.
#ifndef ANVIL_TESTS_FOUNDATION
#define ANVIL_TESTS_FOUNDATION

#include <cstddef>
#include <cstdint>

typedef signed char BOOL;
typedef long NSInteger;
typedef unsigned long NSUInteger;
#ifndef nil
#define nil nullptr
#endif
#ifndef YES
#define YES static_cast<BOOL>(1)
#define NO static_cast<BOOL>(0)
#endif

#pragma clang assume_nonnull begin

@protocol NSObject
#if !__has_feature(objc_arc)
- (instancetype)retain;
- (oneway void)release;
#endif
@end

__attribute__((objc_root_class)) @interface NSObject <NSObject>
+ (instancetype)alloc;
+ (instancetype)new;
- (instancetype)init;
@end

typedef NSUInteger NSStringEncoding;
enum : NSStringEncoding { NSUTF8StringEncoding = 4 };

@interface NSString : NSObject
+ (nullable instancetype)stringWithUTF8String:(const char*)text;
- (nullable instancetype)initWithBytes:(const void*)bytes
                                length:(NSUInteger)length
                              encoding:(NSStringEncoding)encoding;
@property(readonly, nullable) const char* UTF8String;
@property(readonly) NSUInteger length;
@end

@interface NSError : NSObject
@property(readonly, copy) NSString* localizedDescription;
@property(readonly) NSInteger code;
@end

#pragma clang assume_nonnull end

#endif
